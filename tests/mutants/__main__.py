"""Run the mutants of each group of groups.toml by mutmut, and those of statements.toml by hand.

`python -m tests.mutants` runs everything; names of groups, or `statements`, run only these. It prints what was killed
and what survived, and fails where a group is below its share or a statement's mutant survives.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
COPIES = CHECKOUT / ".mutants"
TABLES = Path(__file__).parent
KILLED_SHARE = 0.85
CASE = "tests/cases/legacy/test_cases.py::test_case[sqlite-{}-urlencoded]"
# SQLite shows the same as PostgreSQL, and starts at once.
ONLY_SQLITE = "not postgresql"
# A line that is only a piece of a statement: mutmut would change the case of its words, which SQL does not tell apart.
LINE_OF_SQL = (
    r"""^\s*f?["'][^"]*\b(SELECT|INSERT|UPDATE|DELETE|SET|FROM|JOIN|WHERE|AND|OR|ORDER BY|VALUES|ON|LIMIT)\b"""
)
# To shrink a property's failure takes longer than all examples together; what a property alone notices lacks an example.
ONLY_EXAMPLES = "not hypothesis"


def main(names: list[str]) -> int:
    groups = load_table("groups.toml")["group"]
    known = [group["name"] for group in groups] + ["statements"]
    unknown = set(names) - set(known)
    if unknown:
        print(f"No such group: {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")
        return 2
    chosen = names or known
    good = [run_group(group) for group in groups if group["name"] in chosen]
    if "statements" in chosen:
        good.append(run_statements(load_table("statements.toml")["mutant"]))
    return 0 if all(good) else 1


def run_group(group: dict[str, Any]) -> bool:
    """Let mutmut change the modules of a group, one place at a time, and run the tests that reach the place."""
    copy = _copy_of_checkout(group["name"])
    folders = sorted({path.split("/")[0] for path in group["modules"]})
    config = {
        "source_paths": folders,
        "only_mutate": group["modules"],
        "also_copy": sorted(path.name for path in copy.iterdir() if path.name not in folders),
        "pytest_add_cli_args_test_selection": group["tests"],
        "pytest_add_cli_args": ["-m", ONLY_EXAMPLES, "-k", _keywords(group), "-p", "no:cacheprovider"],
        "do_not_mutate_patterns": [LINE_OF_SQL],
        # Of the seconds that the tests take without a mutant: one that never ends should not take minutes.
        "timeout_multiplier": 4.0,
        "timeout_constant": 5.0,
        # Each run begins anew.
        "track_dependencies": False,
        "use_git_change_detection": False,
    }
    with (copy / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()))
    begun = time.monotonic()
    with (copy / "mutmut.log").open("w") as log:
        if _mutmut(copy, "run", "--max-children", "1", stdout=log).returncode:
            print(f"{group['name']}: mutmut failed, see {log.name}")
            return False
    _mutmut(copy, "export-cicd-stats", stdout=subprocess.DEVNULL)
    result = json.loads((copy / "mutants/mutmut-cicd-stats.json").read_text())
    # A mutant that never ends, or ends the interpreter, was noticed as well.
    killed = result["total"] - result["survived"] - result["no_tests"]
    share = killed / result["total"]
    seconds = time.monotonic() - begun
    print(f"{group['name']}: {killed} of {result['total']} killed, {share:.1%}, in {seconds:.0f} s")
    for line in _mutmut(copy, "results", stdout=subprocess.PIPE).stdout.splitlines():
        name, status = line.strip().split(": ")
        if status in ("survived", "no tests"):
            print(_mutmut(copy, "show", name, stdout=subprocess.PIPE).stdout)
    return bool(share >= KILLED_SHARE)


def run_statements(mutants: list[dict[str, str]]) -> bool:
    """Change one statement at a time, as the table says, and run the test that must notice it."""
    copy = _copy_of_checkout("statements")
    begun = time.monotonic()
    if not _tests_pass(copy, sorted({mutant["test"] for mutant in mutants})):
        print("statements: the tests fail without any mutant")
        return False
    killed = 0
    for mutant in mutants:
        if _is_killed(copy, mutant):
            killed += 1
        else:
            print(f"survived: {mutant['file']}: {mutant['old']!r} -> {mutant['new']!r}; {mutant['test']}")
    print(f"statements: {killed} of {len(mutants)} killed, in {time.monotonic() - begun:.0f} s")
    return killed == len(mutants)


def _is_killed(copy: Path, mutant: dict[str, str]) -> bool:
    path = copy / mutant["file"]
    original = path.read_text()
    if original.count(mutant["old"]) != 1:
        raise SystemExit(f"{mutant['file']} must hold this text once: {mutant['old']!r}")
    path.write_text(original.replace(mutant["old"], mutant["new"]))
    try:
        return not _tests_pass(copy, [mutant["test"]])
    finally:
        path.write_text(original)


def _tests_pass(copy: Path, tests: list[str]) -> bool:
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-n", "0", "-k", ONLY_SQLITE, *tests]
    ran = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)  # noqa: S603
    # 1: tests failed. Whatever else is wrong (no such test, no such file) kills no mutant.
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(tests)}\n{ran.stdout}{ran.stderr}")
    return ran.returncode == 0


def _copy_of_checkout(name: str) -> Path:
    """A copy of the files that git knows or would add: what a mutant breaks must not be the checkout."""
    copy = COPIES / name
    shutil.rmtree(copy, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout  # noqa: S603
    for path in filter(None, listed.split("\0")):
        if (CHECKOUT / path).is_file():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / path, copy / path)
    return copy


def _mutmut(copy: Path, *arguments: str, stdout: Any) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    return subprocess.run(  # noqa: S603
        command, cwd=copy, stdout=stdout, stderr=subprocess.STDOUT, text=True, check=False
    )


def _keywords(group: dict[str, Any]) -> str:
    return f"({ONLY_SQLITE}) and ({group['keywords']})" if "keywords" in group else ONLY_SQLITE


def load_table(name: str) -> dict[str, Any]:
    with (TABLES / name).open("rb") as file:
        table = tomllib.load(file)
    for mutant in table.get("mutant", ()):
        if "case" in mutant:
            mutant["test"] = CASE.format(mutant["case"])
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
