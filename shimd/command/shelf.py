"""ROOT/ID: a container's directory, its lock, and the files in it.

    state.json   the Record, replaced as a whole
    plain        what the front needs to know of a container that has nothing unusual (plain.py)
    config.json  the config as create found it, for exec
    start        fifo: a byte in it runs the program
    outcome      fifo: its end says that it runs, words say why not
    notify/      the socket by which its program says that it is ready, where a manager asked (notify.py)

The lock is flock(2) on the directory itself: it goes with its holder, and there is no file to leave behind. Who has it
changes the container; who only looks takes none, since the record is replaced and never half written.
"""

import fcntl
import os

from shimd.command.record import Record, from_document
from shimd.errors import RuntimeTrouble, Trouble
from shimd.spec import text

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
LONGEST = 1024
STATE = "state.json"
CONFIG = "config.json"
START = "start"
OUTCOME = "outcome"
PLAIN = "plain"
NOTIFY = "notify"
FILES = (STATE, STATE + ".new", CONFIG, START, OUTCOME, PLAIN, f"{NOTIFY}/notify")
DIRECTORIES = (f"/{NOTIFY}", "")


def default_root() -> str:
    """On a tmpfs in either case: nothing of a container outlives the machine's boot."""
    if os.geteuid() == 0:
        return "/run/asyncrt-oci"
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}", "asyncrt-oci")


class Shelf:
    """The directory of one container. Nothing is touched until a method is called."""

    def __init__(self, root: str, id: str) -> None:
        if not id or not LETTERS.issuperset(id) or id[0] == "." or len(id) > LONGEST:
            strange = next((letter for letter in id if letter not in LETTERS), "")
            cause = "invalid container ID format" + (f": invalid character {strange!a}" if strange else "")
            raise RuntimeTrouble(Trouble("use", f"{id!a:.80}", cause, "letters, digits and _ + - ."))
        self.id = id
        self.root = root
        self.path = os.path.join(root, id)
        self.fd = -1

    def claim(self) -> None:
        """Make the directory and hold its lock. RuntimeTrouble if there is one of that name."""
        try:
            os.makedirs(self.root, 0o711, exist_ok=True)
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            cause = "container with given ID already exists"
            raise RuntimeTrouble(Trouble("create", self.id, cause, errno=17)) from None
        except OSError as error:
            raise self._trouble("make", error) from None
        self.lock()

    def lock(self) -> None:
        """Wait for the lock and hold it to the process's end. RuntimeTrouble if there is no such container."""
        while True:
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise self.missing() from None
            except OSError as error:
                raise self._trouble("open", error) from None
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                self.fd = fd
                return
            os.close(fd)  # removed while we waited; perhaps there is another by now

    def unlock(self) -> None:
        """Let the next one in. Said, and not left to close(2): a child that we forked may have a copy of the fd."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)
        self.fd = -1

    def is_locked(self) -> bool:
        """Does a command work on it right now?"""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)

    def read(self) -> Record:
        """The record. RuntimeTrouble if there is no such container, or no record that we can read."""
        try:
            with open(f"{self.path}/{STATE}", encoding="utf-8", errors="surrogateescape") as file:
                document = text.read(file.read())
            assert isinstance(document, dict)
            return from_document(document)
        except FileNotFoundError:
            raise self.missing() from None
        except OSError as error:
            raise self._trouble("read", error) from None
        except (text.BadText, KeyError):
            hint = "remove it with the version that made it, or with delete --force"
            raise RuntimeTrouble(Trouble("read", f"{self.path}/{STATE}", "it is no record of ours", hint)) from None

    def write(self, record: Record) -> None:
        """Replace the record."""
        self.put(STATE + ".new", text.write(record.document()))
        os.rename(f"{self.path}/{STATE}.new", f"{self.path}/{STATE}")

    def put(self, name: str, words: str) -> None:
        """A file of the directory."""
        fd = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, words.encode(errors="surrogateescape"))
        finally:
            os.close(fd)

    def make_fifos(self) -> tuple[int, int]:
        """`start` and `outcome`, each open for both sides."""
        fds = []
        for name in (START, OUTCOME):
            path = f"{self.path}/{name}"
            os.mkfifo(path, 0o600)
            fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return fds[0], fds[1]

    def remove(self) -> None:
        """The directory and its files; safe to repeat."""
        for name in FILES:
            try:
                os.unlink(f"{self.path}/{name}")
            except FileNotFoundError:
                continue
        for name in DIRECTORIES:
            try:
                os.rmdir(self.path + name)
            except FileNotFoundError:
                continue

    def missing(self) -> RuntimeTrouble:
        """The words by which callers know a container that is gone."""
        return RuntimeTrouble(Trouble("find", self.id, "container does not exist", errno=2))

    def _trouble(self, deed: str, error: OSError) -> RuntimeTrouble:
        return RuntimeTrouble(Trouble(deed, self.path, os.strerror(error.errno or 0).lower(), errno=error.errno or 0))


def ids(root: str) -> list[str]:
    """Every container below a root, by name."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
