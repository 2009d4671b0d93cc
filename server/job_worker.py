"""The worker on jobs: one process of `tillgate serve`, and any number of `tillgate worker` on any host.

One thread works on chunks, because they keep a processor busy. Some threads deliver to webhooks, because they wait for
others. One thread looks for jobs that no worker has. A stop lets the chunk under way end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from huey.consumer import Consumer as HueyConsumer

from importing.context import Context
from importing.jobs import chunk, lifecycle
from importing.jobs.huey_connection import UNREACHABLE
from importing.jobs.queue_huey import CHUNK, DELIVERY, HueyQueue
from webhooks import deliveries

log = logging.getLogger("tillgate.worker")

# Chunks are work for one processor. A slow receiver of webhooks must not delay the others.
THREADS = {CHUNK: 1, DELIVERY: 4}
# Seconds between two polls of an empty queue: at first, and at most. (Redis and PostgreSQL notify instead.)
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.08
# Seconds between two tries to reach a queue that cannot be reached, and two checks that all threads are alive.
RETRY = 2.0
HEALTH = 10.0


class QueueThreads(HueyConsumer):  # type: ignore[misc]
    def __init__(self, huey: Any, threads: int) -> None:
        # Nothing is scheduled in huey: the database holds what is due later.
        delays = {"initial_delay": FIRST_PAUSE, "max_delay": LONGEST_PAUSE, "scheduler_interval": 60}
        super().__init__(huey, workers=threads, periodic=False, **delays)

    def _set_signal_handlers(self) -> None:
        # Whoever runs the consumer decides what a signal means.
        pass


class JobWorker:
    """Works on the tasks of a context's queue until it is stopped."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stop = threading.Event()
        self._running: list[QueueThreads] = []
        self._recovery = threading.Thread(target=self._recover, name="recovery", daemon=True)

    def run(self, beat: Callable[[], bool], pause: float = 1.0) -> None:
        """Work for as long as `beat`, called every `pause` seconds, is true; then let end what is under way."""
        self._recovery.start()
        until_check = HEALTH
        while beat():
            if not self._running:
                self._start()
            until_check -= pause
            if until_check <= 0:
                until_check = HEALTH
                for threads in self._running:
                    threads.check_worker_health()
            self._stop.wait(pause if self._running else RETRY)
        self._stop.set()
        for threads in self._running:
            threads.stop_flag.set()
        for threads in self._running:
            for _, thread in threads.worker_threads:
                thread.join()

    def _start(self) -> None:
        context, queue = self._context, self._context.queue
        handlers: dict[str, Callable[..., object]] = {
            CHUNK: lambda batch_id, number: chunk.run_chunk(context, batch_id, number),
            DELIVERY: lambda delivery_id: deliveries.deliver(context, delivery_id),
        }
        assert isinstance(queue, HueyQueue)
        try:
            self._running = [QueueThreads(queue.consume(name, do), THREADS[name]) for name, do in handlers.items()]
        except UNREACHABLE as error:
            log.error("the queue cannot be reached: %s", type(error).__qualname__)
            return
        for threads in self._running:
            threads.start()

    def _recover(self) -> None:
        while not self._stop.is_set():
            for recover in (lifecycle.recover_jobs, deliveries.recover_deliveries):
                try:
                    recover(self._context)
                except Exception as error:  # the thread must go on, else no job would be taken over again
                    log.warning("recovery waits: %s", type(error).__qualname__)
            self._stop.wait(lifecycle.RECOVERY_PAUSE_SECONDS)
