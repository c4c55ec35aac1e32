package vsphere

// What a site has beside one cluster with default machines.

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Both clusters are made and destroyed at once by one provider, as apply does it: what they share is made once and goes with the last.
func TestBothClustersAtOnce(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	text := fmt.Sprintf(head, c.keyFile) + strings.Replace(fmt.Sprintf(cluster, "service", 100, 101, c.thumbprint()), machineVIP, "10.9.255.2", 1) +
		"    nodes:\n      - {name: sc-1, role: control-plane}\n" +
		fmt.Sprintf(cluster, "workload", 102, 103, c.thumbprint()) + "    nodes:\n      - {name: wc-1, role: control-plane}\n"
	inv, err := inventory.Parse([]byte(text), "inventory.yaml")
	require.NoError(t, err)
	before := c.Resources(t)
	p := c.with(nil)
	both := func(do func(provider.Request) error) {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, name := range inv.ClusterNames() {
			wg.Add(1)
			go func() {
				defer wg.Done()
				errs[i] = do(provider.Request{Inventory: inv, Cluster: name})
			}()
		}
		wg.Wait()
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
	}
	ensure := func(r provider.Request) error {
		_, err := p.Ensure(t.Context(), r, nil)
		return err
	}
	both(ensure)
	assert.Equal(t, map[string]int{"Folder": 3, "VirtualMachine": 2, "attribute": 1, "category": 1, "tag": 2}, c.made(t))

	require.NoError(t, p.Destroy(t.Context(), provider.Request{Inventory: inv, Cluster: inventory.Service}, nil))
	assert.Equal(t, map[string]int{"Folder": 2, "VirtualMachine": 1, "attribute": 1, "category": 1, "tag": 1}, c.made(t))
	left, err := p.Plan(t.Context(), provider.Request{Inventory: inv, Cluster: inventory.Workload})
	require.NoError(t, err)
	assert.Empty(t, left.Changes, "the other cluster lacks nothing")

	both(ensure)
	both(func(r provider.Request) error { return p.Destroy(t.Context(), r, nil) })
	assert.Equal(t, before, c.Resources(t))
}

// The disks of the clones would not fit: that is seen before the first of them is made.
func TestDatastoreWithoutRoom(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx := c.model.Service.Context
	for _, e := range c.model.Map().All("Datastore") {
		ds := e.(*simulator.Datastore)
		ctx.WithLock(ds, func() { ctx.Update(ds, []types.PropertyChange{{Name: "summary.freeSpace", Val: int64(0)}}) })
	}
	before := c.Resources(t)
	_, err := c.with(nil).Ensure(t.Context(), c.site(t, oneNode), nil)
	require.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "the datastore /DC0/datastore/LocalDS_0 is full")
	assert.Equal(t, before, c.Resources(t))
}

func TestDatastoreClusterAndLinkedClone(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	all, err := c.admin.list(t.Context(), c.admin.ServiceContent.RootFolder, map[string][]string{"Datastore": nil, "StoragePod": nil})
	require.NoError(t, err)
	by := map[string]ref{}
	for r, x := range all {
		by[x.name] = r
	}
	c.done(t, func() (*object.Task, error) {
		return object.NewFolder(c.admin.Client, by["DC0_POD0"]).MoveInto(t.Context(), []ref{by["LocalDS_1"]})
	})
	yes := true
	res, err := methods.ConfigureStorageDrsForPod_Task(t.Context(), c.admin.Client, &types.ConfigureStorageDrsForPod_Task{
		This: *c.admin.ServiceContent.StorageResourceManager, Pod: by["DC0_POD0"], Modify: true,
		Spec: types.StorageDrsConfigSpec{PodConfigSpec: &types.StorageDrsPodConfigSpec{Enabled: &yes}},
	})
	require.NoError(t, err)
	_, err = c.admin.finish(t.Context(), res.Returnval)
	require.NoError(t, err)
	c.onCall(nil)
	r := c.site(t, "    nodes:\n      - {name: wc-1, role: control-plane, vsphere: {datastoreCluster: DC0_POD0, linkedClone: true}}\n")
	require.NoError(t, ensured(c, r))
	assert.Equal(t, []ref{by["LocalDS_1"]}, c.machine(t, "wc-1").Datastore)
}

// Tags and attributes of the site's own are set beside ours, and stay when the cluster goes.
func TestTagsAndAttributesOfTheSite(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	m := tags.NewManager(rest.NewClient(c.admin.Client))
	require.NoError(t, m.Login(t.Context(), url.UserPassword(user, password)))
	category, err := m.CreateCategory(t.Context(), &tags.Category{Name: "team", Cardinality: "MULTIPLE"})
	require.NoError(t, err)
	id, err := m.CreateTag(t.Context(), &tags.Tag{Name: "infra", CategoryID: category})
	require.NoError(t, err)
	made, err := methods.AddCustomFieldDef(t.Context(), c.admin.Client, &types.AddCustomFieldDef{
		This: *c.admin.ServiceContent.CustomFieldsManager, Name: "owner", MoType: "VirtualMachine",
	})
	require.NoError(t, err)
	before := c.Resources(t)
	r := c.site(t, "    nodes:\n      - {name: wc-1, role: control-plane, vsphere: {tags: [\"team:infra\"], attributes: {owner: ops}}}\n")
	require.NoError(t, ensured(c, r))
	vm := c.named(t, "wc-1").Reference()
	attached, err := m.GetAttachedTags(t.Context(), vm)
	require.NoError(t, err)
	var names []string
	for _, x := range attached {
		names = append(names, x.Name)
	}
	assert.ElementsMatch(t, []string{"infra", "umea-workload"}, names)
	values := map[int32]string{}
	for _, v := range c.machine(t, "wc-1").CustomValue {
		values[v.GetCustomFieldValue().Key] = v.(*types.CustomFieldStringValue).Value
	}
	assert.Equal(t, "ops", values[made.Returnval.Key])
	assert.Contains(t, values, made.Returnval.Key+1, "ours")

	require.NoError(t, m.DetachTag(t.Context(), id, vm))
	p, err := c.with(nil).Plan(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, p.Changes, 1)
	assert.Equal(t, "it lacks tags", p.Changes[0].Reason)
	require.NoError(t, ensured(c, r))
	require.NoError(t, destroyed(c, r))
	assert.Equal(t, before, c.Resources(t))
}

// A machine that somebody moved and renamed is still ours: it is not made a second time.
func TestMovedMachineIsFound(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := c.site(t, oneNode)
	require.NoError(t, ensured(c, r))
	vm := c.named(t, "wc-1")
	c.done(t, func() (*object.Task, error) { return vm.Rename(t.Context(), "renamed") })
	at, err := c.admin.catalog(context.Background(), "DC0")
	require.NoError(t, err)
	c.done(t, func() (*object.Task, error) {
		return object.NewFolder(c.admin.Client, at.vmFolder).MoveInto(t.Context(), []ref{vm.Reference()})
	})
	p, err := c.with(nil).Plan(t.Context(), r)
	require.NoError(t, err)
	assert.Empty(t, p.Changes)
	assert.Len(t, p.Machines, 1)
	require.NoError(t, destroyed(c, r))
	assert.Empty(t, c.made(t))
}
