package vsphere

// The comparison: what is there, what shall be there, and the steps between them. Plan shows the steps, Ensure takes them.

import (
	"context"
	"fmt"
	"path"
	"sort"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// survey is everything that one call knows of a cluster.
type survey struct {
	job
	at         *catalog
	siteFolder *ref // nil while it is not there
	folder     *ref
	ours       map[ref]*machine
	wishes     []*wish
	labels     *labels
	own        *own
}

// wish is a node of the inventory and the machine that it has.
type wish struct {
	node    *inventory.Node
	want    inventory.VSphereMachine
	have    *machine
	adopted bool
	shape   *shape // nil of adopted and absent nodes
}

// step is a change and how it is made. One without a verb is part of another change and not told.
type step struct {
	change provider.Change
	do     func(context.Context, *client) error
}

// explore finds what is there of a cluster, without a look at its nodes. extra are further machines to look at.
func (c *client) explore(ctx context.Context, j job, extra func(*survey) ([]*thing, error)) (*survey, map[ref]*machine, error) {
	at, err := c.catalog(ctx, firstOf(j.vs.Datacenter, j.getenv("GOVC_DATACENTER")))
	if err != nil {
		return nil, nil, err
	}
	s := &survey{job: j, at: at, ours: map[ref]*machine{}}
	top, err := s.topFolder()
	if err != nil {
		return nil, nil, err
	}
	if f := at.child(top, "Folder", j.site); f != nil {
		s.siteFolder = &f.ref
		if f := at.child(f.ref, "Folder", string(j.cluster)); f != nil {
			s.folder = &f.ref
		}
	}
	candidates, err := extra(s)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range at.things {
		if t.ref.Type == "VirtualMachine" && s.folder != nil && t.parent != nil && *t.parent == *s.folder {
			candidates = append(candidates, t)
		}
	}
	looked, err := c.look(ctx, candidates)
	if err != nil {
		return nil, nil, err
	}
	for r, m := range looked {
		if m.isOurs(j, s.folder) {
			s.ours[r] = m
		}
	}
	s.labels, err = c.labelsOf(ctx, j)
	return s, looked, err
}

func firstOf(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}

// topFolder is where the site's folder is, or will be.
func (s *survey) topFolder() (ref, error) {
	name := firstOf(s.vs.Folder, s.getenv("GOVC_FOLDER"))
	if name == "" || name == "vm" {
		return s.at.vmFolder, nil
	}
	t, err := s.at.find("folder", name, "Folder")
	if err != nil {
		return ref{}, err
	}
	if t.ref != s.at.vmFolder && !s.at.isBelow(t, s.at.vmFolder) {
		return ref{}, permanent("the folder %s is not one for virtual machines", t.path)
	}
	return t.ref, nil
}

// survey finds what is there and what the inventory's nodes ask for.
func (c *client) survey(ctx context.Context, j job) (*survey, error) {
	adopt := map[string]*thing{}
	s, looked, err := c.explore(ctx, j, func(s *survey) ([]*thing, error) {
		var out []*thing
		identities := map[string]bool{}
		for i := range j.conf.Nodes {
			n := &j.conf.Nodes[i]
			identities[identity(j.site, j.cluster, n.Name)] = true
			if name := j.inv.VSphereFor(j.cluster, n).VM; name != "" {
				t, err := s.at.adoptable(name)
				if err != nil {
					return nil, fmt.Errorf("the node %s: %w", n.Name, err)
				}
				adopt[n.Name] = t
				out = append(out, t)
			}
		}
		for _, t := range s.at.things {
			if id, _ := t.props["config.instanceUuid"].(string); t.ref.Type == "VirtualMachine" && identities[id] {
				out = append(out, t) // one of ours that somebody moved or renamed
			}
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	by, err := s.byNode()
	if err != nil {
		return nil, err
	}
	names := &shapes{j: j, at: s.at, all: map[string]*shape{}}
	for i := range j.conf.Nodes {
		n := &j.conf.Nodes[i]
		w := &wish{node: n, want: j.inv.VSphereFor(j.cluster, n), have: by[n.Name]}
		if t := adopt[n.Name]; t != nil {
			w.have, w.adopted = looked[t.ref], true
		} else if n.State != inventory.Absent {
			if w.shape, err = names.of(w.want, w.have == nil); err != nil {
				return nil, fmt.Errorf("the node %s: %w", n.Name, err)
			}
		}
		s.wishes = append(s.wishes, w)
	}
	return s, c.readOwn(ctx, s)
}

// adoptable finds a machine by UUID, path or name.
func (c *catalog) adoptable(name string) (*thing, error) {
	for _, t := range c.things {
		if t.ref.Type == "VirtualMachine" && (t.props["config.instanceUuid"] == name || t.props["config.uuid"] == name) {
			return t, nil
		}
	}
	return c.find("virtual machine", name, "VirtualMachine")
}

// byNode are our machines by the names of their nodes.
func (s *survey) byNode() (map[string]*machine, error) {
	out := map[string]*machine{}
	for _, m := range s.ours {
		n := m.marks[markNode]
		if other := out[n]; other != nil {
			names := []string{m.path, other.path}
			sort.Strings(names)
			return nil, permanent("two machines say that they are the node %s (%s): delete the wrong one, or its settings %s", n, strings.Join(names, ", "), markNode)
		}
		out[n] = m
	}
	return out, nil
}

// machines are those of the inventory's nodes that have an address.
func (s *survey) machines() []provider.Machine {
	var out []provider.Machine
	for _, w := range s.wishes {
		if w.have == nil {
			continue
		}
		if m := s.shown(w.have, w.node); m.Address != "" {
			m.Adopted = w.adopted
			out = append(out, m)
		}
	}
	return out
}

// surplus are our machines of nodes that are not in the inventory.
func (s *survey) surplus() []provider.Machine {
	known := map[string]bool{}
	for i := range s.conf.Nodes {
		known[s.conf.Nodes[i].Name] = true
	}
	var out []provider.Machine
	for _, m := range s.ours {
		if n := m.marks[markNode]; !known[n] {
			out = append(out, s.shown(m, &inventory.Node{Name: n, Role: inventory.Role(m.marks[markRole])}))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// work is all that Ensure does, in its order.
type work struct {
	shared   []step // what all machines need: folders, labels
	machines []*chore
	rules    []step
}

// chore is what one machine needs.
type chore struct {
	*wish
	change provider.Change // without a verb: nothing
	set    []types.BaseVirtualDeviceConfigSpec
	cpus   int32
	memory int64
	start  bool
	label  bool             // our tag
	note   bool             // our custom attribute
	tags   []string         // of the site's own, by ID
	notes  map[int32]string // custom attributes of the site's own
}

func (w *work) changes() []provider.Change {
	var out []provider.Change
	for _, s := range w.shared {
		out = append(out, s.change)
	}
	for _, t := range w.machines {
		if t.change.Verb != "" {
			out = append(out, t.change)
		}
	}
	for _, s := range w.rules {
		out = append(out, s.change)
	}
	return out
}

// compare finds the steps. It checks all that can be checked before anything is made.
func (c *client) compare(ctx context.Context, s *survey) (*work, error) {
	out := &work{}
	for _, w := range s.wishes {
		t, err := s.compareMachine(w)
		if err != nil {
			return nil, err
		}
		if t != nil {
			out.machines = append(out.machines, t)
		}
	}
	done := map[*shape]bool{}
	for _, t := range out.machines {
		if t.have != nil || done[t.shape] {
			continue
		}
		done[t.shape] = true
		if err := c.detail(ctx, t.shape); err != nil {
			return nil, fmt.Errorf("the node %s: %w", t.node.Name, err)
		}
		if _, err := authorizedKeys(s.job, s.inv.SSHFor(s.cluster, t.node)); err != nil {
			return nil, fmt.Errorf("the node %s: %w", t.node.Name, err)
		}
	}
	if err := s.room(); err != nil {
		return nil, err
	}
	if len(out.machines) > 0 {
		out.shared = s.compareShared()
	}
	out.rules = s.compareRules()
	return out, nil
}

// compareMachine returns what a node's machine needs; nil for one that is not made by us.
func (s *survey) compareMachine(w *wish) (*chore, error) {
	n := w.node
	if w.have != nil {
		if state := w.have.vm.Runtime.ConnectionState; state != "" && state != types.VirtualMachineConnectionStateConnected {
			return nil, fmt.Errorf("the machine %s of the node %s is %s: is its host up, is its datastore there?", w.have.path, n.Name, state)
		}
	}
	if w.adopted {
		if n.State != inventory.Absent && !w.have.isOn() {
			return nil, permanent("the adopted machine %s of the node %s is powered off: power it on", w.have.path, n.Name)
		}
		return nil, nil
	}
	if w.shape == nil {
		return nil, nil // absent
	}
	t := &chore{wish: w, tags: s.missingTags(w), notes: s.missingNotes(w)}
	if w.have == nil {
		if s.folder != nil {
			if other := s.at.child(*s.folder, "VirtualMachine", n.Name); other != nil {
				if err := s.blocked(other, n.Name); err != nil {
					return nil, err
				}
			}
		}
		t.start, t.label, t.note = true, true, true
		t.change = provider.Change{Verb: provider.Create, Kind: "machine", Name: n.Name, Reason: "there is none with this node's marks"}
		return t, nil
	}
	var why []string
	t.start = !w.have.isOn()
	if t.start {
		why = append(why, "it is powered off")
	}
	why = append(why, s.compareHardware(t)...)
	t.label = s.labels.tag == nil || !s.labels.tagged[w.have.ref]
	t.note = s.labels.attribute == nil || w.have.attributes[s.labels.attribute.key] != attributeValue(s.job, n.Name)
	if t.label || len(t.tags) > 0 {
		why = append(why, "it lacks tags")
	}
	if t.note || len(t.notes) > 0 {
		why = append(why, "it lacks custom attributes")
	}
	if len(why) > 0 {
		t.change = provider.Change{Verb: provider.Update, Kind: "machine", Name: n.Name, Reason: strings.Join(why, ", ")}
	}
	return t, nil
}

// blocked says what to do about something that stands in a machine's place. A machine without settings is a clone that still runs.
func (s *survey) blocked(other *thing, node string) error {
	if other.props["config.instanceUuid"] == nil {
		return nil
	}
	return permanent("%s stands where the machine of the node %s belongs, and has no marks of ours: if it is half a clone, delete it; "+
		"if it is yours, move it, or adopt it with vm", other.path, node)
}

// compareHardware finds what has drifted, and can be set: a disk only grows, and a machine that runs keeps its CPUs and memory unless
// it can be given more of them.
func (s *survey) compareHardware(t *chore) []string {
	var why []string
	vm, want := &t.have.vm, t.shape.want
	if vm.Config == nil {
		return nil
	}
	can := func(hot *bool, more bool) bool { return !t.have.isOn() || hot != nil && *hot && more }
	hw := vm.Config.Hardware
	if n := int32(want.CPUs); n > 0 && n != hw.NumCPU && can(vm.Config.CpuHotAddEnabled, n > hw.NumCPU) {
		t.cpus = n
		why = append(why, fmt.Sprintf("it has %d CPUs, not %d", hw.NumCPU, n))
	}
	if n := int32(want.MemoryMiB); n > 0 && n != hw.MemoryMB && can(vm.Config.MemoryHotAddEnabled, n > hw.MemoryMB) {
		t.memory = int64(n)
		why = append(why, fmt.Sprintf("it has %d MiB of memory, not %d", hw.MemoryMB, n))
	}
	linked := want.LinkedClone != nil && *want.LinkedClone
	if d := t.have.disk(); d != nil && !linked && diskSize(d) < int64(want.DiskGiB)<<30 {
		t.set = append(t.set, grown(d, int64(want.DiskGiB)<<30))
		why = append(why, fmt.Sprintf("its disk has %d GiB, not %d", diskSize(d)>>30, want.DiskGiB))
	}
	return why
}

// compareShared returns what must be made before machines: the folders, and the labels.
func (s *survey) compareShared() []step {
	var out []step
	add := func(kind, name, reason string, do func(context.Context, *client) error) {
		out = append(out, step{change: provider.Change{Verb: provider.Create, Kind: kind, Name: name, Reason: reason}, do: do})
	}
	top, _ := s.topFolder()
	if s.siteFolder == nil {
		add("folder", path.Join(s.at.pathOf(top), s.site), "it holds the site's machines", func(ctx context.Context, c *client) (err error) {
			s.siteFolder, err = c.makeFolder(ctx, s.at, top, s.site)
			return err
		})
	}
	if s.folder == nil {
		add("folder", path.Join(s.at.pathOf(top), s.site, string(s.cluster)), "it holds the cluster's machines", func(ctx context.Context, c *client) (err error) {
			s.folder, err = c.makeFolder(ctx, s.at, *s.siteFolder, string(s.cluster))
			return err
		})
	}
	l := s.labels
	if l.category == nil {
		add("tag category", categoryName(s.site), "it holds the tags of the site's clusters",
			func(ctx context.Context, c *client) error { return c.makeCategory(ctx, s.job, l) })
	}
	if l.tag == nil {
		add("tag", tagName(s.job), "it marks the cluster's machines",
			func(ctx context.Context, c *client) error { return c.makeTag(ctx, s.job, l) })
	}
	if l.attribute == nil {
		add("custom attribute", attributeName(s.site), "it shows which node a machine is",
			func(ctx context.Context, c *client) error { return c.makeAttribute(ctx, s.job, l) })
	}
	return out
}

func (c *catalog) pathOf(r ref) string {
	if t := c.things[r]; t != nil {
		return t.path
	}
	return ""
}
