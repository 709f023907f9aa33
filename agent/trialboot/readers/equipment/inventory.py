"""All that a host is made of, as far as a boot may change how it behaves."""

from trialboot.core.facts import Equipment
from trialboot.host import Host
from trialboot.readers.equipment.devices import read_devices
from trialboot.readers.equipment.devlink import Exchange, ask_generic_netlink, read_devlink
from trialboot.readers.equipment.fwupd import read_pending
from trialboot.readers.equipment.interfaces import AskDriver, ask_driver, read_interfaces


def read_equipment(
    host: Host, *, ask: AskDriver = ask_driver, exchange: Exchange = ask_generic_netlink
) -> Equipment:
    """Read interfaces and devices; each source fails by itself, as a sentence in `unread`.

    `ask` and `exchange` are the doors to the kernel that no folder can stand for: ioctl and
    netlink.
    """
    answers = (read_devices(host), read_devlink(exchange), read_pending(host))
    return Equipment(
        interfaces=read_interfaces(host, ask=ask),
        devices=tuple(sorted(device for devices, _ in answers for device in devices)),
        unread=tuple(sentence for _, unread in answers for sentence in unread),
    )
