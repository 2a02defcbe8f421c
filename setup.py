"""The hook: metadata is in setup.cfg, this only carries csplade_pyserini.pth into site-packages."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HOOK = "csplade_pyserini.pth"


class BuildWithHook(build_py):
    """Put the .pth beside the package, in wheels and in editable installs alike."""

    def run(self) -> None:
        super().run()
        self.copy_file(HOOK, self._hook())

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), self._hook()]

    def _hook(self) -> str:
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        return str(Path(folder, HOOK))


setup(cmdclass={"build_py": BuildWithHook})
