"""Real repositories for the tests of the command line."""

import os
import subprocess
from pathlib import Path

import attrs
import pytest


@attrs.frozen
class Repo:
    """A repository that tests commit to."""

    path: Path

    def git(self, *arguments, **environment):
        """Run git here, and return what it prints."""
        done = subprocess.run(
            ["git", "-C", self.path, *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
        )
        return done.stdout.decode("utf-8", errors="replace").strip()

    def commit(self, subject, files, author="Ada <ada@example.org>", **options):
        """Commit files, by name and content; None removes one."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        self.git("add", "--all")
        arguments = ["commit", "--quiet", "--allow-empty", "--author", author]
        message = subject if isinstance(subject, bytes) else subject.encode()
        subprocess.run(
            ["git", "-C", self.path, *options.get("settings", ()), *arguments, "--file=-"],
            input=message,
            check=True,
            capture_output=True,
        )


@pytest.fixture
def git_home(tmp_path, monkeypatch):
    """A home of its own for git: nothing of this machine's configuration reaches the test."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith("GIT_") and "SSL" not in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    config = home / ".gitconfig"
    config.write_text(
        "[user]\n\tname = Committer\n\temail = committer@example.org\n"
        "[init]\n\tdefaultBranch = main\n[safe]\n\tdirectory = *\n"
    )
    return config


@pytest.fixture
def make_repo(tmp_path, git_home):
    """Make an empty repository under a name."""

    def make(name="project"):
        repo = Repo(tmp_path / name)
        repo.path.mkdir()
        repo.git("init", "--quiet")
        return repo

    return make
