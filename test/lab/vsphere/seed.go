package vsphere

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// What the vCenter has before anybody makes anything in it. The names are the simulator's.
const (
	Datacenter       = "DC0"
	Cluster          = "DC0_C0"
	Datastore        = "LocalDS_0"
	DatastoreCluster = "DC0_POD0" // of LocalDS_1
	Network          = "DC0_DVPG0"
	Template         = "debian-12"
)

// newModel makes the vCenter: a datacenter, a cluster of three hosts, two datastores of which one is in a datastore cluster, a
// distributed port group, and a template with a snapshot that clones can be linked to.
func newModel(ctx context.Context) (*simulator.Model, error) {
	m := simulator.VPX()
	m.Host, m.Datastore, m.Pod, m.Machine, m.Autostart = 0, 2, 1, 1, false
	if err := m.Create(); err != nil {
		return nil, fmt.Errorf("the simulator's inventory: %w", err)
	}
	c, err := vim25.NewClient(ctx, m.Service)
	if err != nil {
		return nil, err
	}
	if err := seed(ctx, c); err != nil {
		m.Remove()
		return nil, fmt.Errorf("seed the vCenter: %w", err)
	}
	return m, nil
}

func seed(ctx context.Context, c *vim25.Client) error {
	f := find.NewFinder(c)
	dc, err := f.Datacenter(ctx, Datacenter)
	if err != nil {
		return err
	}
	f.SetDatacenter(dc)
	ds, err := f.Datastore(ctx, "LocalDS_1")
	if err != nil {
		return err
	}
	pod, err := f.DatastoreCluster(ctx, DatastoreCluster)
	if err != nil {
		return err
	}
	if err := done(ctx)(pod.MoveInto(ctx, []types.ManagedObjectReference{ds.Reference()})); err != nil {
		return err
	}
	vm, err := f.VirtualMachine(ctx, Cluster+"_RP0_VM0")
	if err != nil {
		return err
	}
	if err := done(ctx)(vm.Rename(ctx, Template)); err != nil {
		return err
	}
	if err := done(ctx)(vm.CreateSnapshot(ctx, "installed", "for linked clones", false, false)); err != nil {
		return err
	}
	return vm.MarkAsTemplate(ctx)
}

// done waits for a task.
func done(ctx context.Context) func(*object.Task, error) error {
	return func(t *object.Task, err error) error {
		if err != nil {
			return err
		}
		return t.WaitEx(ctx)
	}
}
