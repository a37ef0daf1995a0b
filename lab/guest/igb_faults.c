// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the igb driver refuse what other drivers refuse by themselves: a VF whose settings cannot be read while it is in
 * reset, as ice_get_vf_cfg() answers ("VF %d in reset. Try again."), or one setting out of several. A probe at the entry
 * of the driver's function calls another in its place, so that nothing is done.
 *
 * All parameters may be written at any time: function (an ndo of igb without "igb_ndo_"), vf (-1: none), error (an
 * errno), count (how often; -1: until told otherwise); refused counts what was.
 *
 * unreported (a VF, -1: none): the driver takes its spoof check and trust, and reports neither, as drivers do that know
 * only one of the two calls: the kernel's presets stay (rtnl_fill_vfinfo()).
 */
#include <linux/if_link.h>
#include <linux/kprobes.h>
#include <linux/module.h>

static char function[32] = "get_vf_config";
static int vf = -1, error = EBUSY, count = -1, refused, unreported = -1;
module_param_string(function, function, sizeof function, 0644);
module_param(vf, int, 0644);
module_param(error, int, 0644);
module_param(count, int, 0644);
module_param(refused, int, 0644);
module_param(unreported, int, 0644);

static const char prefix[] = "igb_ndo_";

/* What is called in place of the driver's function. */
static noinline int refuse(void)
{
	return -error;
}

/* Every one of these functions has the netdev as its first argument and the number of the VF as its second. */
static int answer(struct kprobe *probe, struct pt_regs *regs)
{
	if (count == 0 || (int)regs->si != vf ||
	    !sysfs_streq(probe->symbol_name + sizeof prefix - 1, function))
		return 0;
	if (count > 0)
		count--;
	refused++;
	regs->ip = (unsigned long)refuse;
	return 1;
}

static struct kprobe probes[] = {
	{ .symbol_name = "igb_ndo_get_vf_config", .pre_handler = answer },
	{ .symbol_name = "igb_ndo_set_vf_mac", .pre_handler = answer },
	{ .symbol_name = "igb_ndo_set_vf_vlan", .pre_handler = answer },
	{ .symbol_name = "igb_ndo_set_vf_bw", .pre_handler = answer },
	{ .symbol_name = "igb_ndo_set_vf_spoofchk", .pre_handler = answer },
	{ .symbol_name = "igb_ndo_set_vf_trust", .pre_handler = answer },
};
static struct kprobe *all[ARRAY_SIZE(probes)];

/* igb_ndo_get_vf_config(netdev, vf, ivi): where the answer goes. */
static int asked(struct kretprobe_instance *call, struct pt_regs *regs)
{
	*(struct ifla_vf_info **)call->data = (void *)regs->dx;
	return (int)regs->si == unreported ? 0 : 1;
}

static int answered(struct kretprobe_instance *call, struct pt_regs *regs)
{
	struct ifla_vf_info *info = *(struct ifla_vf_info **)call->data;

	info->spoofchk = -1;
	info->trusted = -1;
	return 0;
}

static struct kretprobe report = {
	.kp.symbol_name = "igb_ndo_get_vf_config",
	.entry_handler = asked,
	.handler = answered,
	.data_size = sizeof(struct ifla_vf_info *),
};

static int __init start(void)
{
	int error = register_kretprobe(&report);

	if (error)
		return error;
	for (int i = 0; i < ARRAY_SIZE(probes); i++)
		all[i] = &probes[i];
	error = register_kprobes(all, ARRAY_SIZE(all));
	if (error)
		unregister_kretprobe(&report);
	return error;
}

static void __exit end(void)
{
	unregister_kretprobe(&report);
	unregister_kprobes(all, ARRAY_SIZE(all));
}

module_init(start);
module_exit(end);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Refusals of an SR-IOV driver, for tests");
