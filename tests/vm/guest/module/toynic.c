// SPDX-License-Identifier: GPL-2.0
/*
 * toynic: stands for a NIC driver whose firmware can go bad.
 *
 * It loads toynic/nic.bin once. Bytes that start with "GOOD" give the host a
 * network device toynic0; anything else is refused, and so is the module, as
 * real drivers do when their firmware does not answer. What was loaded can be
 * read in /sys/module/toynic/parameters/firmware_loaded.
 */
#include <linux/etherdevice.h>
#include <linux/firmware.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/platform_device.h>
#include <linux/slab.h>

#define TOYNIC_FIRMWARE "toynic/nic.bin"

static char *firmware_loaded = "";
module_param(firmware_loaded, charp, 0444);
MODULE_PARM_DESC(firmware_loaded, "the bytes of the firmware that was loaded");

static struct platform_device *toynic;
static char *firmware_bytes;
static int probe_error;

static netdev_tx_t toynic_xmit(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops toynic_ops = {
	.ndo_start_xmit = toynic_xmit,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = eth_mac_addr,
};

static int toynic_load(struct device *dev)
{
	const struct firmware *firmware;
	bool good;
	int error = request_firmware(&firmware, TOYNIC_FIRMWARE, dev);

	if (error)
		return error;
	firmware_bytes = kmemdup_nul(firmware->data, firmware->size, GFP_KERNEL);
	release_firmware(firmware);
	if (!firmware_bytes)
		return -ENOMEM;
	strim(firmware_bytes);
	good = str_has_prefix(firmware_bytes, "GOOD");
	if (!good)
		pr_err("toynic: the firmware does not answer (\"%s\")\n", firmware_bytes);
	return good ? 0 : -EIO;
}

static int toynic_register(struct platform_device *device)
{
	struct net_device *dev = alloc_etherdev(0);
	int error;

	if (!dev)
		return -ENOMEM;
	strscpy(dev->name, "toynic%d", sizeof(dev->name));
	dev->netdev_ops = &toynic_ops;
	eth_hw_addr_random(dev);
	SET_NETDEV_DEV(dev, &device->dev);
	error = register_netdev(dev);
	if (error) {
		free_netdev(dev);
		return error;
	}
	platform_set_drvdata(device, dev);
	pr_info("toynic: running firmware \"%s\"\n", firmware_bytes);
	return 0;
}

static int __init toynic_probe(struct platform_device *device)
{
	probe_error = toynic_load(&device->dev);
	if (!probe_error)
		probe_error = toynic_register(device);
	return probe_error;
}

static void toynic_remove(struct platform_device *device)
{
	struct net_device *dev = platform_get_drvdata(device);

	unregister_netdev(dev);
	free_netdev(dev);
}

static struct platform_driver toynic_driver = {
	.driver.name = "toynic",
	.remove = toynic_remove,
};

static int __init toynic_init(void)
{
	toynic = platform_create_bundle(&toynic_driver, toynic_probe, NULL, 0, NULL, 0);
	if (!IS_ERR(toynic)) {
		firmware_loaded = firmware_bytes;
		return 0;
	}
	kfree(firmware_bytes);
	/* The bundle says only "no device"; the reason is what the operator needs. */
	return probe_error ?: PTR_ERR(toynic);
}

static void __exit toynic_exit(void)
{
	platform_device_unregister(toynic);
	platform_driver_unregister(&toynic_driver);
	kfree(firmware_bytes);
}

module_init(toynic_init);
module_exit(toynic_exit);

MODULE_FIRMWARE(TOYNIC_FIRMWARE);
MODULE_DESCRIPTION("A network device that is as good as its firmware");
MODULE_LICENSE("GPL");
