package vsphere

// What the vCenter has, by name: one listing of a datacenter, in which all names of the inventory are looked up.

import (
	"context"
	"net/url"
	"sort"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ref is what vCenter calls an object by.
type ref = types.ManagedObjectReference

// thing is an object with the properties that were listed.
type thing struct {
	ref    ref
	name   string
	path   string // as govc writes it: /DC0/vm/k8s/node-1
	parent *ref
	props  map[string]any
}

// catalog is one datacenter.
type catalog struct {
	datacenter *thing
	vmFolder   ref
	things     map[ref]*thing
}

// listed are the properties of each kind of object that a plan needs. Kinds stand beside their subtypes, which some vCenters list as
// their own.
func listed() map[string][]string {
	return map[string][]string{
		"Folder":                      nil,
		"StoragePod":                  {"podStorageDrsEntry.storageDrsConfig.podConfig.enabled", "summary.freeSpace"},
		"Datastore":                   {"summary.freeSpace", "summary.accessible"},
		"ComputeResource":             {"resourcePool"},
		"ClusterComputeResource":      {"resourcePool", "configurationEx"},
		"ResourcePool":                {"owner"},
		"VirtualApp":                  {"owner"},
		"Network":                     nil,
		"OpaqueNetwork":               nil,
		"DistributedVirtualPortgroup": nil,
		"VirtualMachine":              {"config.instanceUuid", "config.uuid", "config.template"},
	}
}

// list reads all objects of the given kinds below a container, with their names: four calls, however many there are.
func (c *client) list(ctx context.Context, container ref, kinds map[string][]string) (map[ref]*thing, error) {
	var out map[ref]*thing
	err := c.again(ctx, func() (err error) {
		out, err = c.listOnce(ctx, container, kinds)
		return err
	})
	return out, err
}

func (c *client) listOnce(ctx context.Context, container ref, kinds map[string][]string) (map[ref]*thing, error) {
	names := make([]string, 0, len(kinds))
	props := make([]types.PropertySpec, 0, len(kinds))
	for k, p := range kinds {
		names = append(names, k)
		props = append(props, types.PropertySpec{Type: k, PathSet: append([]string{"name", "parent"}, p...)})
	}
	sort.Strings(names)
	view, err := methods.CreateContainerView(ctx, c, &types.CreateContainerView{
		This: *c.ServiceContent.ViewManager, Container: container, Type: names, Recursive: true,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		_, _ = methods.DestroyView(ctx, c, &types.DestroyView{This: view.Returnval}) // it ends with the session
	}()
	skip := true
	res, err := property.DefaultCollector(c.Client).RetrieveProperties(ctx, types.RetrieveProperties{SpecSet: []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{{
			Obj: view.Returnval, Skip: &skip,
			SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "ContainerView", Path: "view"}},
		}},
		PropSet: props,
	}}})
	if err != nil {
		return nil, err
	}
	out := map[ref]*thing{}
	for _, o := range res.Returnval {
		t := &thing{ref: o.Obj, props: map[string]any{}}
		for _, p := range o.PropSet {
			t.props[p.Name] = p.Val
		}
		for _, p := range o.MissingSet { // a property that the account may not see is left out
			if err := soap.WrapVimFault(p.Fault.Fault); fault.Is(err, &types.NotAuthenticated{}) {
				return nil, err
			}
		}
		t.name, _ = t.props["name"].(string)
		if n, err := url.PathUnescape(t.name); err == nil { // vCenter escapes slashes
			t.name = n
		}
		if p, ok := t.props["parent"].(ref); ok {
			t.parent = &p
		}
		out[t.ref] = t
	}
	return out, nil
}

// catalog lists the datacenter that is named, or the only one.
func (c *client) catalog(ctx context.Context, name string) (*catalog, error) {
	all, err := c.list(ctx, c.ServiceContent.RootFolder, map[string][]string{"Folder": nil, "Datacenter": {"vmFolder"}})
	if err != nil {
		return nil, err
	}
	setPaths(all)
	dc, err := lookup(all, "datacenter", name, "Datacenter")
	if err != nil {
		return nil, err
	}
	things, err := c.list(ctx, dc.ref, listed())
	if err != nil {
		return nil, err
	}
	things[dc.ref] = dc
	setPaths(things)
	out := &catalog{datacenter: dc, things: things}
	out.vmFolder, _ = dc.props["vmFolder"].(ref)
	return out, nil
}

// setPaths joins the names up to the topmost object that was listed.
func setPaths(all map[ref]*thing) {
	var path func(t *thing) string
	path = func(t *thing) string {
		if t.path == "" {
			t.path = "/" + t.name
			if t.parent != nil {
				if p, ok := all[*t.parent]; ok {
					t.path = path(p) + "/" + t.name
				}
			}
		}
		return t.path
	}
	for _, t := range all {
		path(t)
	}
}

// find looks up an object of some kinds by its name or inventory path; an empty name means the only one.
func (c *catalog) find(what, name string, kinds ...string) (*thing, error) {
	return lookup(c.things, what, name, kinds...)
}

// below looks up an object that is inside another.
func (c *catalog) below(top *thing, what, name string, kinds ...string) (*thing, error) {
	some := map[ref]*thing{}
	for r, t := range c.things {
		if c.isBelow(t, top.ref) {
			some[r] = t
		}
	}
	return lookup(some, what, name, kinds...)
}

func (c *catalog) isBelow(t *thing, top ref) bool {
	for t != nil && t.parent != nil {
		if *t.parent == top {
			return true
		}
		t = c.things[*t.parent]
	}
	return false
}

// child is the folder or machine of a name right in a folder; nil where there is none.
func (c *catalog) child(folder ref, kind, name string) *thing {
	for _, t := range c.things {
		if t.ref.Type == kind && t.name == name && t.parent != nil && *t.parent == folder {
			return t
		}
	}
	return nil
}

// children tells whether anything is left in a folder, beside what is left out.
func (c *catalog) hasChildren(folder ref, beside func(*thing) bool) bool {
	for _, t := range c.things {
		if t.parent != nil && *t.parent == folder && !beside(t) {
			return true
		}
	}
	return false
}

// lookup finds the one object that a name means: by its path, by the end of its path, or by name.
func lookup(all map[ref]*thing, what, name string, kinds ...string) (*thing, error) {
	var fit, rest []*thing
	for _, t := range all {
		if !isOneOf(t.ref.Type, kinds) {
			continue
		}
		if name == "" || t.path == name || !strings.HasPrefix(name, "/") && strings.HasSuffix(t.path, "/"+name) {
			fit = append(fit, t)
		} else {
			rest = append(rest, t)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1 && name == "":
		return nil, permanent("there are several %ss (%s): name one", what, strings.Join(paths(fit), ", "))
	case len(fit) > 1:
		return nil, permanent("%s names several %ss (%s): write the path", name, what, strings.Join(paths(fit), ", "))
	case len(rest) == 0:
		return nil, permanent("there is no %s that this account can see", what)
	}
	return nil, permanent("there is no %s %s; the nearest: %s", what, name, strings.Join(nearest(name, rest), ", "))
}

func isOneOf(kind string, kinds []string) bool {
	for _, k := range kinds {
		if k == kind {
			return true
		}
	}
	return false
}

func paths(some []*thing) []string {
	out := make([]string, 0, len(some))
	for _, t := range some {
		out = append(out, t.path)
	}
	sort.Strings(out)
	return out
}

// nearest are the paths of the (at most three) things whose names need the fewest changes to be the wanted one.
func nearest(name string, some []*thing) []string {
	last := strings.ToLower(name[strings.LastIndex(name, "/")+1:])
	distance := map[*thing]int{}
	for _, t := range some {
		distance[t] = levenshtein.ComputeDistance(last, strings.ToLower(t.name))
	}
	sort.Slice(some, func(i, j int) bool {
		if a, b := distance[some[i]], distance[some[j]]; a != b {
			return a < b
		}
		return some[i].path < some[j].path
	})
	var out []string
	for _, t := range some[:min(3, len(some))] {
		out = append(out, t.path)
	}
	return out
}
