"""A dataset with two versions: the second stores only what changed, and gets a tag.

Needs a Prefect server that this machine is configured for. What is stored goes to the store:
`clearflow store set URL` names one that all machines reach; without it this machine has its own.
"""

from pathlib import Path
from tempfile import mkdtemp

from clearflow import Dataset

data = Path(mkdtemp())
for number in range(100):
    (data / f"{number}.txt").write_text(f"digit {number}")

first = Dataset.create("digits", "Examples", dataset_tags=["raw"])
first.add_files(data)
first.finalize(auto_upload=True)
print(f"version {first.version} has {len(first.list_files())} files")

# The same folder a day later: one file is new, one has changed, one is gone.
(data / "100.txt").write_text("digit 100")
(data / "7.txt").write_text("seven")
(data / "0.txt").unlink()
second = Dataset.create(parent_datasets=[first])
removed, added, modified = second.sync_folder(data)
print(f"version {second.version}: {removed} removed, {added} added, {modified} modified")
second.finalize(auto_upload=True)

# Triggers hear of the tag, and whoever asks for it gets the latest that has it.
second.add_tags(["production"])
latest = Dataset.get(dataset_project="Examples", dataset_name="digits", dataset_tags=["production"])

# Every task of a machine shares this copy; what both versions have is on the disk once.
print(latest == second, (Path(latest.get_local_copy()) / "7.txt").read_text())

# Last line: True seven
