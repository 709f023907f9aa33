"""The system bus: our name and methods, systemd's jobs, and a pump for what has arrived.

dbus-python hangs its watches on a GLib main context; ctypes iterates that context, so that no
PyGObject (2 to 8 MiB) is needed (knowledge: runtime.md, section 2). One thread owns the bus.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop

from trialboot.errors import HostError, TrialbootError

NAME: Final = "org.trialboot1"
PATH: Final = "/org/trialboot1"
INTERFACE: Final = "org.trialboot1.Manager"
_GLIB: Final = "libglib-2.0.so.0"  # by its soname: ctypes' own search would start programs
_SYSTEMD: Final = "org.freedesktop.systemd1"
_SYSTEMD_PATH: Final = "/org/freedesktop/systemd1"
_MANAGER: Final = "org.freedesktop.systemd1.Manager"
_LOGIND: Final = "org.freedesktop.login1"
_LOGIND_PATH: Final = "/org/freedesktop/login1"
_LEAVING: Final = ("shutdown.target", "rescue.target", "emergency.target")
_ACTIVE_STATE, _JOB_TYPE, _JOB_PATH, _UP = 3, 8, 9, ("active", "activating", "reloading")
"""Places in what ListUnitsByNames gives a unit (org.freedesktop.systemd1(5)), and states."""

JobDone = Callable[[str, str, str], None]
"""Called with the job's path, its unit's name and the result: `done`, `failed`, `timeout`, ..."""


class Manager(dbus.service.Object):
    """What others may ask of the daemon. Root may do all, others only read (bus policy)."""

    def __init__(
        self, connection: Any, status: Callable[[], str], ask: Callable[[str], None]
    ) -> None:
        super().__init__(connection, PATH)
        self._connection = connection
        self._status = status
        self._ask = ask

    @dbus.service.method(INTERFACE, out_signature="s")
    def Status(self) -> str:  # noqa: N802  D-Bus members are written so
        """Give the state file's JSON."""
        return self._status()

    @dbus.service.method(INTERFACE, sender_keyword="sender")
    def Retry(self, sender: str | None = None) -> None:  # noqa: N802
        """Let condemned boot sets be tried again."""
        self._as_root("retry", sender)

    @dbus.service.method(INTERFACE, sender_keyword="sender")
    def Allow(self, sender: str | None = None) -> None:  # noqa: N802
        """Let what a failed pre-check refuses be tried all the same."""
        self._as_root("allow", sender)

    @dbus.service.method(INTERFACE, sender_keyword="sender")
    def Verify(self, sender: str | None = None) -> None:  # noqa: N802
        """Verify this boot once more."""
        self._as_root("verify", sender)

    @dbus.service.method(INTERFACE, sender_keyword="sender")
    def Reload(self, sender: str | None = None) -> None:  # noqa: N802
        """Read the configuration again."""
        self._as_root("reload", sender)

    def _as_root(self, wish: str, sender: str | None) -> None:
        # The bus policy says so already; asked again here because a policy file can be edited.
        if self._connection.get_unix_user(sender) != 0:
            raise dbus.exceptions.DBusException(
                "only root may", name="org.freedesktop.DBus.Error.AccessDenied"
            )
        try:
            self._ask(wish)
        except TrialbootError as error:
            raise dbus.exceptions.DBusException(str(error), name=f"{NAME}.Error") from error


class Bus:
    """The one connection of the daemon."""

    def __init__(self) -> None:
        DBusGMainLoop(set_as_default=True)
        self._glib = ctypes.CDLL(_GLIB)
        self._glib.g_main_context_iteration.argtypes = (ctypes.c_void_p, ctypes.c_int)
        try:
            self.connection = dbus.SystemBus()
        except dbus.exceptions.DBusException as error:
            raise HostError(f"system bus: {error.get_dbus_message()}") from error

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return int(self.connection.get_unix_fd())

    def pump(self) -> None:
        """Handle all that has arrived; to be called before every sleep, not only when readable.

        A signal that came during a blocking call is queued in libdbus, and then the descriptor
        stays silent.
        """
        while self._glib.g_main_context_iteration(None, 0):
            pass

    def own_name(self) -> None:
        """Take our name. Raises `HostError` if another daemon has it."""
        taken = self.connection.request_name(NAME, dbus.bus.NAME_FLAG_DO_NOT_QUEUE)
        if taken != dbus.bus.REQUEST_NAME_REPLY_PRIMARY_OWNER:
            raise HostError(
                f"{NAME} is taken: another trialbootd runs (systemctl status trialbootd)"
            )

    def watch_jobs(self, done: JobDone) -> None:
        """Call `done` whenever a job of systemd ends."""
        self._call("Subscribe")
        self.connection.add_signal_receiver(
            lambda _id, job, unit, result: done(str(job), str(unit), str(result)),
            signal_name="JobRemoved",
            dbus_interface=_MANAGER,
            bus_name=_SYSTEMD,
            path=_SYSTEMD_PATH,
        )

    def watch_start(self, ended: Callable[[], None]) -> None:
        """Call `ended` when the start of the system ends; to be called after `watch_jobs`."""
        self.connection.add_signal_receiver(
            lambda *_times: ended(),
            signal_name="StartupFinished",
            dbus_interface=_MANAGER,
            bus_name=_SYSTEMD,
            path=_SYSTEMD_PATH,
        )

    def has_started(self) -> bool:
        """Tell whether systemd had no job left once since it began to start the system.

        `StartupFinished` comes at that instant (`manager_check_finished`, systemd's
        src/core/manager.c). Raises `HostError`.
        """
        when = self._property(_SYSTEMD, _SYSTEMD_PATH, "FinishTimestampMonotonic")
        return bool(when != 0)

    def start_unit(self, unit: str) -> str:
        """Queue a unit's start; give the path of the job, whose end comes through `watch_jobs`."""
        return str(self._call("StartUnit", unit, "replace"))

    def job_of(self, unit: str) -> str:
        """Give the path of a unit's job; empty where it has none. Raises `HostError`.

        A oneshot service has its job until it has ended.
        """
        (found,) = self._call("ListUnitsByNames", dbus.Array([unit], signature="s"))
        return "" if str(found[_JOB_PATH]) == "/" else str(found[_JOB_PATH])

    def is_leaving(self) -> bool:
        """Tell whether the system is on its way down or to rescue mode; a soft-reboot counts.

        True from the instant at which logind tells those who delay a shutdown (the kubelet then
        begins to end pods), or systemd takes the jobs for it: whoever hears that one of them has
        cancelled a job finds it so already. Not `SystemState`: that says `starting` for as long
        as a job of the boot is left, the cancelled one included (`manager_state`, systemd's
        src/core/manager.c). Raises `HostError` where one of the two does not answer.
        """
        units = self._call("ListUnitsByNames", dbus.Array(_LEAVING, signature="s"))
        return any(_is_coming(unit) for unit in units) or self._prepares_for_shutdown()

    def _prepares_for_shutdown(self) -> bool:
        return bool(self._property(_LOGIND, _LOGIND_PATH, "PreparingForShutdown"))

    def _property(self, owner: str, path: str, name: str) -> Any:
        try:
            there = self.connection.get_object(owner, path, introspect=False)
            get = there.get_dbus_method("Get", dbus.PROPERTIES_IFACE)
            return get(f"{owner}.Manager", name)
        except dbus.exceptions.DBusException as error:
            raise HostError(f"{owner} {name}: {error.get_dbus_message()}") from error

    def _call(self, member: str, *arguments: Any) -> Any:
        try:
            manager = self.connection.get_object(_SYSTEMD, _SYSTEMD_PATH, introspect=False)
            return manager.get_dbus_method(member, _MANAGER)(*arguments)
        except dbus.exceptions.DBusException as error:
            raise HostError(f"systemd {member}: {error.get_dbus_message()}") from error


def _is_coming(unit: Any) -> bool:
    return str(unit[_ACTIVE_STATE]) in _UP or str(unit[_JOB_TYPE]) == "start"
