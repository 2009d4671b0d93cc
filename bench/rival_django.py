# mypy: ignore-errors
"""django-import-export at its fastest: bulk writes, no diff, nothing skipped, all instances cached, one transaction.

    PYTHON-WITH-DJANGO rival_django.py ROWS FOLDER

The same work as the yardstick's on the same files, in SQLite: a before-image of each customer that changes, an
enrolment and a ledger entry of 25 points for each row. Prints one line of JSON. A whole Django project in one file.
"""

import json
import sys
import time
from pathlib import Path

import django
from django.conf import settings

COUNT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
DATABASE = FOLDER / "rival_django.db"
for suffix in ("", "-wal", "-shm"):
    Path(f"{DATABASE}{suffix}").unlink(missing_ok=True)
settings.configure(
    INSTALLED_APPS=["import_export"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATABASE,
            "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.db import connection, models  # noqa: E402 - Django wants to be set up first
from import_export import resources  # noqa: E402
from import_export.instance_loaders import CachedInstanceLoader  # noqa: E402
from tablib import Dataset  # noqa: E402

COLUMNS = (
    *("code", "card_number", "first_name", "last_name", "custom_date", "phone", "email", "street1", "city", "state"),
    *("postal_code", "custom_field_1"),
)
CAMPAIGN, POINTS, BATCH, CHUNK = 7, 25, 1, 1000


class Profile(models.Model):
    """What a customer and its before-image both have."""

    first_name = models.CharField(max_length=128)
    last_name = models.CharField(max_length=128)
    custom_date = models.CharField(max_length=10)
    phone = models.CharField(max_length=64)
    email = models.CharField(max_length=255)
    street1 = models.CharField(max_length=255)
    city = models.CharField(max_length=128)
    state = models.CharField(max_length=128)
    postal_code = models.CharField(max_length=32)
    custom_field_1 = models.CharField(max_length=255)

    class Meta:
        abstract = True


class Customer(Profile):
    """A customer; the one account goes without saying."""

    code = models.CharField(max_length=64, unique=True)
    card_number = models.CharField(max_length=64, unique=True)

    class Meta:
        app_label = "rival"


class Snapshot(Profile):
    """A customer as it was before a batch."""

    code = models.CharField(max_length=64)
    card_number = models.CharField(max_length=64)
    batch_id = models.BigIntegerField()
    customer_id = models.BigIntegerField()

    class Meta:
        app_label = "rival"
        constraints = (models.UniqueConstraint(fields=["batch_id", "customer_id"], name="snapshot_once"),)


class Enrolment(models.Model):
    """A customer in a campaign."""

    campaign_id = models.BigIntegerField()
    customer_id = models.BigIntegerField()
    balance = models.BigIntegerField(default=0)

    class Meta:
        app_label = "rival"
        constraints = (models.UniqueConstraint(fields=["campaign_id", "customer_id"], name="enrolment_once"),)


class Ledger(models.Model):
    """Points that a batch gave."""

    campaign_id = models.BigIntegerField()
    customer_id = models.BigIntegerField()
    amount = models.IntegerField()
    batch_id = models.BigIntegerField()

    class Meta:
        app_label = "rival"


class CustomerResource(resources.ModelResource):
    """The import. Before-images, enrolments and points go with the bulk writes, in bulk too."""

    class Meta:
        model = Customer
        fields = COLUMNS
        import_id_fields = ("code",)
        instance_loader_class = CachedInstanceLoader
        use_bulk = True
        batch_size = CHUNK
        skip_unchanged = False
        report_skipped = False
        skip_diff = True
        use_transactions = True
        clean_model_instances = False

    def __init__(self):
        super().__init__()
        self.images = []
        self.imported = None

    def get_instance(self, instance_loader, row):
        """Matched by code, else by card; the before-image is taken before anything is written to it."""
        found = super().get_instance(instance_loader, row)
        if found is None:
            found = by_card(instance_loader).get(row["card_number"])
        if found is not None:
            values = {name: getattr(found, name) for name in COLUMNS}
            self.images.append(Snapshot(batch_id=BATCH, customer_id=found.pk, **values))
        return found

    def bulk_create(self, *args, **kwargs):
        """New customers have their ids afterwards."""
        created = list(self.create_instances)
        super().bulk_create(*args, **kwargs)
        enrol(created)

    def bulk_update(self, *args, **kwargs):
        """The images first, as they were."""
        updated = list(self.update_instances)
        Snapshot.objects.bulk_create(self.images, batch_size=CHUNK)
        self.images = []
        super().bulk_update(*args, **kwargs)
        enrol(updated)


def by_card(loader):
    """All customers by card, made once."""
    if not hasattr(loader, "by_card"):
        loader.by_card = {customer.card_number: customer for customer in loader.all_instances.values()}
    return loader.by_card


def enrol(customers):
    """Enrolment and points of customers that have their ids, in bulk."""
    ids = [customer.pk for customer in customers]
    known = {found.customer_id: found for found in Enrolment.objects.filter(campaign_id=CAMPAIGN, customer_id__in=ids)}
    for found in known.values():
        found.balance += POINTS
    Enrolment.objects.bulk_update(known.values(), ["balance"], batch_size=CHUNK)
    new = [Enrolment(campaign_id=CAMPAIGN, customer_id=pk, balance=POINTS) for pk in ids if pk not in known]
    Enrolment.objects.bulk_create(new, batch_size=CHUNK)
    points = [Ledger(campaign_id=CAMPAIGN, customer_id=pk, amount=POINTS, batch_id=BATCH) for pk in ids]
    Ledger.objects.bulk_create(points, batch_size=CHUNK)


def dataset(file):
    """A file as tablib has it."""
    text = file.read_text(encoding="utf-8")
    return Dataset().load("|".join(COLUMNS) + "\n" + text, format="csv", delimiter="|")


def memory(what):
    """This process's memory in MB, now or at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def main():
    """Preload the first file, then time the import of the second."""
    with connection.schema_editor() as editor:
        for model in (Customer, Snapshot, Enrolment, Ledger):
            editor.create_model(model)
    lines = (FOLDER / f"first_{COUNT}.psv").read_text(encoding="utf-8").splitlines()
    first = (Customer(**dict(zip(COLUMNS, line.split("|"), strict=True))) for line in lines)
    customers = Customer.objects.bulk_create(first, batch_size=CHUNK)
    Enrolment.objects.bulk_create(
        (Enrolment(campaign_id=CAMPAIGN, customer_id=c.pk) for c in customers), batch_size=CHUNK
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    del lines, customers
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    idle = memory("VmRSS")
    start, used = time.perf_counter(), time.process_time()
    result = CustomerResource().import_data(dataset(FOLDER / f"second_{COUNT}.psv"), raise_errors=True)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    above = memory("VmHWM") - idle
    totals = (result.totals["update"], result.totals["new"], Snapshot.objects.count(), Ledger.objects.count())
    assert totals == (COUNT // 2, COUNT - COUNT // 2, COUNT // 2, COUNT), totals
    print(json.dumps({"seconds": seconds, "processor": processor, "memory": above}))


if __name__ == "__main__":
    main()
