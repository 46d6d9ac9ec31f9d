"""A flow that needs a package the agent does not have: its deployment names the requirement."""

from importlib.metadata import version

from prefect import flow


@flow
def versions(package: str = "cowsay") -> str:
    import cowsay

    cowsay.cow(f"{package} {version(package)}, in an environment of my own")
    return version(package)
