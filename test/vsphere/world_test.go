package vsphere

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
	"github.com/catamaran-k8s/catamaran/test/lab/vsphere"
	"github.com/catamaran-k8s/catamaran/test/story"
)

// world is the lab's vCenter as the story sees it.
type world struct {
	state    vsphere.State
	password string
	client   *govmomi.Client
	tags     *tags.Manager
	finder   *find.Finder
}

func (w *world) signIn(ctx context.Context) error {
	u, err := url.Parse(w.state.Direct)
	if err != nil {
		return err
	}
	u.User = url.UserPassword(w.state.User, w.password)
	if w.client, err = govmomi.NewClient(ctx, u, true); err != nil {
		return err
	}
	r := rest.NewClient(w.client.Client)
	if err := r.Login(ctx, u.User); err != nil {
		return err
	}
	w.tags = tags.NewManager(r)
	w.finder = find.NewFinder(w.client.Client)
	dc, err := w.finder.Datacenter(ctx, w.state.Datacenter)
	if err != nil {
		return err
	}
	w.finder.SetDatacenter(dc)
	return nil
}

func (w *world) Provider() string  { return "vsphere" }
func (w *world) Inventory() string { return w.state.Inventory }

func (w *world) Env() []string {
	return []string{"GOVC_URL=" + w.state.URL, "GOVC_USERNAME=" + w.state.User, "GOVC_PASSWORD=" + w.password}
}

func (w *world) Proxy() proxy.Client { return proxy.Client{Socket: w.state.Control} }

func (w *world) Faults() []story.Fault {
	once := func(name, operation string, r proxy.Rule) story.Fault {
		r.Match, r.First, r.Times = "^"+operation+"$", 1, 1
		return story.Fault{Name: name, Rule: r}
	}
	return []story.Fault{
		once("unavailable", "CreateContainerView", proxy.Rule{Status: 503, RetryAfterSeconds: 1}),
		once("the session expired", "CloneVM_Task", proxy.Rule{Unsigned: true}),
		once("half an answer", "CreateFilter", proxy.Rule{Half: true}),
		once("cut after it was done", "PowerOnVM_Task", proxy.Rule{Cut: true}),
		once("slow", "WaitForUpdatesEx", proxy.Rule{DelayMillis: 3000}),
	}
}

// kinds are the managed objects that somebody can make.
var kinds = []string{
	"ClusterComputeResource", "ComputeResource", "Datacenter", "Datastore", "DistributedVirtualPortgroup", "DistributedVirtualSwitch", "Folder",
	"HostSystem", "Network", "ResourcePool", "StoragePod", "VirtualApp", "VirtualMachine",
}

// List lists managed objects, DRS rules, custom attributes, tag categories, tags, and the folders of datastores.
func (w *world) List(ctx context.Context) ([]story.Resource, error) {
	var out []story.Resource
	for _, list := range []func(context.Context) ([]story.Resource, error){w.objects, w.rules, w.attributes, w.labels, w.files} {
		some, err := list(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

func (w *world) objects(ctx context.Context) ([]story.Resource, error) {
	v, err := view.NewManager(w.client.Client).CreateContainerView(ctx, w.client.ServiceContent.RootFolder, kinds, true)
	if err != nil {
		return nil, err
	}
	defer v.Destroy(ctx) //nolint:errcheck // the session ends
	var entities []mo.ManagedEntity
	if err := v.Retrieve(ctx, kinds, []string{"name"}, &entities); err != nil {
		return nil, err
	}
	var out []story.Resource
	for _, e := range entities {
		out = append(out, story.Resource{Kind: e.Self.Type, Name: e.Name, ID: e.Self.Value})
	}
	return out, nil
}

func (w *world) rules(ctx context.Context) ([]story.Resource, error) {
	c, err := w.finder.ClusterComputeResource(ctx, w.state.Cluster)
	if err != nil {
		return nil, err
	}
	config, err := c.Configuration(ctx)
	if err != nil {
		return nil, err
	}
	var out []story.Resource
	for _, r := range config.Rule {
		rule := r.GetClusterRuleInfo()
		out = append(out, story.Resource{Kind: "rule", Name: rule.Name, ID: fmt.Sprint(rule.Key)})
	}
	for _, g := range config.Group {
		out = append(out, story.Resource{Kind: "group", Name: g.GetClusterGroupInfo().Name, ID: g.GetClusterGroupInfo().Name})
	}
	return out, nil
}

func (w *world) attributes(ctx context.Context) ([]story.Resource, error) {
	m, err := object.GetCustomFieldsManager(w.client.Client)
	if err != nil {
		return nil, err
	}
	fields, err := m.Field(ctx)
	if err != nil {
		return nil, err
	}
	var out []story.Resource
	for _, f := range fields {
		out = append(out, story.Resource{Kind: "custom attribute", Name: f.Name, ID: fmt.Sprint(f.Key)})
	}
	return out, nil
}

func (w *world) labels(ctx context.Context) ([]story.Resource, error) {
	var out []story.Resource
	categories, err := w.tags.GetCategories(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range categories {
		out = append(out, story.Resource{Kind: "tag category", Name: c.Name, ID: c.ID})
	}
	all, err := w.tags.GetTags(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		out = append(out, story.Resource{Kind: "tag", Name: t.Name, ID: t.ID})
	}
	return out, nil
}

func (w *world) files(ctx context.Context) ([]story.Resource, error) {
	stores, err := w.finder.DatastoreList(ctx, "*")
	if err != nil {
		return nil, err
	}
	var out []story.Resource
	for _, ds := range stores {
		b, err := ds.Browser(ctx)
		if err != nil {
			return nil, err
		}
		task, err := b.SearchDatastore(ctx, ds.Path(""), &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"*"}})
		if err != nil {
			return nil, err
		}
		info, err := task.WaitForResult(ctx, nil)
		if err != nil {
			return nil, err
		}
		found, ok := info.Result.(types.HostDatastoreBrowserSearchResults)
		if !ok {
			return nil, fmt.Errorf("search %s: the result is a %T", ds.Name(), info.Result)
		}
		for _, f := range found.File {
			name := ds.Path(f.GetFileInfo().Path)
			out = append(out, story.Resource{Kind: "file", Name: name, ID: name})
		}
	}
	return out, nil
}

func (w *world) MakeByHand(ctx context.Context, name, user, authorizedKey string) (map[string]any, error) {
	userData, fingerprint, err := story.UserData(name, user, authorizedKey)
	if err != nil {
		return nil, err
	}
	template, err := w.finder.VirtualMachine(ctx, w.state.Template)
	if err != nil {
		return nil, err
	}
	pool, err := w.finder.ResourcePool(ctx, w.state.Cluster+"/Resources")
	if err != nil {
		return nil, err
	}
	folder, err := w.finder.Folder(ctx, "vm")
	if err != nil {
		return nil, err
	}
	where := pool.Reference()
	task, err := template.Clone(ctx, folder, name, types.VirtualMachineCloneSpec{
		Location: types.VirtualMachineRelocateSpec{Pool: &where}, PowerOn: true,
		Config: &types.VirtualMachineConfigSpec{ExtraConfig: object.OptionValueListFromMap(map[string]string{
			"guestinfo.userdata": base64.StdEncoding.EncodeToString(userData), "guestinfo.userdata.encoding": "base64",
			"guestinfo.metadata": `{"local-hostname": "` + name + `"}`,
		})},
	})
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return nil, err
	}
	ref, ok := info.Result.(types.ManagedObjectReference)
	if !ok {
		return nil, fmt.Errorf("clone %s: the result is a %T", name, info.Result)
	}
	if _, err := object.NewVirtualMachine(w.client.Client, ref).WaitForIP(ctx); err != nil {
		return nil, fmt.Errorf("wait for the address of %s: %w", name, err)
	}
	return map[string]any{"hostKey": fingerprint, "vsphere": map[string]any{"vm": name}}, nil
}

func (w *world) UnmakeByHand(ctx context.Context, name string) error {
	vm, err := w.finder.VirtualMachine(ctx, name)
	if err != nil {
		return err
	}
	for _, do := range []func(context.Context) (*object.Task, error){vm.PowerOff, vm.Destroy} {
		task, err := do(ctx)
		if err != nil {
			return err
		}
		if err := task.WaitEx(ctx); err != nil {
			return err
		}
	}
	return nil
}
