import type { KernelSource } from './packages.ts';

/**
 * Soft-RoCE as a card's RDMA device: it belongs to the PCI function of its netdev, comes and goes with that one's driver and not when the netdev
 * is moved, and can be moved itself. So the kernel's own code for RDMA devices, namespaces and character devices does with it what it does
 * with a ConnectX VF's. Data does not flow in a pod: soft-RoCE has its socket in the host's namespace.
 */
export const softRoce: KernelSource = {
  folder: 'drivers/infiniband/sw/rxe',
  edits: {
    'rxe_verbs.c': [
      // Without it the device cannot leave its namespace (ib_device_set_netns_put).
      {
        before: 'static const struct ib_device_ops rxe_dev_ops = {',
        insert: 'static void lab_disassociate_ucontext(struct ib_ucontext *context) { }\n\n',
      },
      {
        after: 'static const struct ib_device_ops rxe_dev_ops = {',
        insert: '\n\t.disassociate_ucontext = lab_disassociate_ucontext,',
      },
      {
        before: '\terr = ib_register_device(dev, ibdev_name, NULL);',
        insert: '\tdev->dev.parent = ndev->dev.parent;\n',
      },
    ],
    'rxe_net.c': [
      // A netdev that changes its namespace says so in this way, too.
      {
        before: '\t\tib_unregister_device_queued(&rxe->ib_dev);',
        insert: '\t\tif (ndev->reg_state != NETREG_REGISTERED)\n\t',
      },
      {
        before: 'static int rxe_notify(struct notifier_block *not_blk,',
        insert: `#include <linux/pci.h>

struct lab_birth {
	struct work_struct work;
	struct net_device *ndev;
};

/* Not under the lock of all links, where the notification comes. */
static void lab_bear(struct work_struct *work)
{
	struct lab_birth *birth = container_of(work, struct lab_birth, work);
	struct net_device *ndev = birth->ndev;
	struct rxe_dev *rxe;

	if (ndev->reg_state == NETREG_REGISTERED)
		rxe_net_add("rxe%d", ndev);
	rxe = rxe_get_dev_from_net(ndev);
	if (rxe) {
		if (ndev->reg_state != NETREG_REGISTERED)
			ib_unregister_device_queued(&rxe->ib_dev);
		ib_device_put(&rxe->ib_dev);
	}
	dev_put(ndev);
	kfree(birth);
}

/* A VF's driver makes its RDMA device when it is bound. */
static void lab_announce(struct net_device *ndev)
{
	struct device *parent = ndev->dev.parent;
	struct lab_birth *birth;

	if (!parent || !dev_is_pci(parent) || !to_pci_dev(parent)->is_virtfn || !net_eq(dev_net(ndev), &init_net))
		return;
	birth = kzalloc(sizeof(*birth), GFP_KERNEL);
	if (!birth)
		return;
	INIT_WORK(&birth->work, lab_bear);
	birth->ndev = ndev;
	dev_hold(ndev);
	schedule_work(&birth->work);
}

`,
      },
      {
        before: '\tif (!rxe)\n\t\treturn NOTIFY_OK;\n',
        insert: '\tif (!rxe && event == NETDEV_REGISTER)\n\t\tlab_announce(ndev);\n',
      },
    ],
  },
};
