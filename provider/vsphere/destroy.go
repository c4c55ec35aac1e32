package vsphere

// Taking away what was made, machines that are named or all of them, and nothing else.

import (
	"context"
	"fmt"
	"path"
	"slices"
	"sort"

	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/provider"
)

// remnants are what is left of a cluster, in the order in which it is taken away.
type remnants struct {
	rules    []step
	machines []step
	shared   []step // under the lock
}

func (r *remnants) changes() []provider.Change {
	var out []provider.Change
	for _, s := range slices.Concat(r.rules, r.machines, r.shared) {
		if s.change.Verb != "" {
			out = append(out, s.change)
		}
	}
	return out
}

// known explores without a look at what the nodes ask for.
func (c *client) known(ctx context.Context, j job, names []string) (*survey, error) {
	identities := map[string]bool{}
	for _, n := range names {
		identities[identity(j.site, j.cluster, n)] = true
	}
	s, _, err := c.explore(ctx, j, func(s *survey) ([]*thing, error) {
		var out []*thing
		for _, t := range s.at.things {
			if id, _ := t.props["config.instanceUuid"].(string); t.ref.Type == "VirtualMachine" && identities[id] {
				out = append(out, t)
			}
		}
		return out, nil
	})
	return s, err
}

func (j job) nodeNames() []string {
	var out []string
	for i := range j.conf.Nodes {
		out = append(out, j.conf.Nodes[i].Name)
	}
	return out
}

// retire deletes the machines of named nodes, which the caller has taken out of their cluster.
func (c *client) retire(ctx context.Context, j job, names []string, report func(provider.Change)) error {
	s, err := c.known(ctx, j, names)
	if err != nil {
		return err
	}
	gone := map[ref]bool{}
	var machines []step
	for _, m := range s.sorted() {
		if slices.Contains(names, m.marks[markNode]) {
			gone[m.ref] = true
			machines = append(machines, deletion(m, "its node was taken out of the cluster"))
		}
	}
	return c.clear(ctx, &remnants{rules: s.withoutMachines(gone), machines: machines}, report)
}

// sorted are our machines in the order of their names.
func (s *survey) sorted() []*machine {
	out := make([]*machine, 0, len(s.ours))
	for _, m := range s.ours {
		out = append(out, m)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].path < out[j].path })
	return out
}

// remains finds all that Destroy deletes.
func (c *client) remains(ctx context.Context, j job) (*remnants, error) {
	s, err := c.known(ctx, j, j.nodeNames())
	if err != nil {
		return nil, err
	}
	out := &remnants{}
	for _, r := range s.rules() {
		out.rules = append(out.rules, s.ruleStep(provider.Delete, r, "the cluster is destroyed"))
	}
	for _, m := range s.sorted() {
		out.machines = append(out.machines, deletion(m, "the cluster is destroyed"))
	}
	out.shared = s.removeShared()
	return out, nil
}

// removeShared returns the steps that delete what all machines needed. What the site's clusters share goes with the last of them; a
// folder goes only when nothing else is in it, because what is in a folder is deleted with it.
func (s *survey) removeShared() []step {
	var out []step
	add := func(kind, name, reason string, do func(context.Context, *client) error) {
		out = append(out, step{change: provider.Change{Verb: provider.Delete, Kind: kind, Name: name, Reason: reason}, do: do})
	}
	const all, last = "the cluster is destroyed", "no cluster of the site is left"
	l := s.labels
	if l.tag != nil && l.tag.ours {
		add("tag", tagName(s.job), all, func(ctx context.Context, c *client) error {
			return c.tagging(ctx, func(m *tags.Manager) error { return m.DeleteTag(ctx, &tags.Tag{ID: l.tag.id}) })
		})
	}
	top, _ := s.topFolder()
	alone := s.siteFolder != nil && !s.at.hasChildren(*s.siteFolder, func(t *thing) bool { return s.folder != nil && t.ref == *s.folder })
	empty := s.folder != nil && !s.at.hasChildren(*s.folder, func(t *thing) bool { return s.ours[t.ref] != nil })
	if empty {
		add("folder", path.Join(s.at.pathOf(top), s.site, string(s.cluster)), all,
			func(ctx context.Context, c *client) error { return c.removeFolder(ctx, *s.folder) })
	}
	if !l.others {
		if l.attribute != nil && l.attribute.ours {
			add("custom attribute", attributeName(s.site), last, func(ctx context.Context, c *client) error {
				_, err := methods.RemoveCustomFieldDef(ctx, c, &types.RemoveCustomFieldDef{This: *c.ServiceContent.CustomFieldsManager, Key: l.attribute.key})
				return err
			})
		}
		if l.category != nil && l.category.ours {
			add("tag category", categoryName(s.site), last, func(ctx context.Context, c *client) error {
				return c.tagging(ctx, func(m *tags.Manager) error { return m.DeleteCategory(ctx, &tags.Category{ID: l.category.id}) })
			})
		}
	}
	if alone && (empty || s.folder == nil) {
		add("folder", path.Join(s.at.pathOf(top), s.site), last,
			func(ctx context.Context, c *client) error { return c.removeFolder(ctx, *s.siteFolder) })
	}
	return out
}

// destroy deletes the machines first, then surveys again and deletes what they needed: the other cluster may have changed since.
func (c *client) destroy(ctx context.Context, j job, report func(provider.Change)) error {
	r, err := c.remains(ctx, j)
	if err != nil {
		return err
	}
	if err := c.clear(ctx, &remnants{rules: r.rules, machines: r.machines}, report); err != nil || len(r.shared) == 0 {
		return err
	}
	var done []provider.Change
	err = c.hold(ctx, func() error {
		now, err := c.remains(ctx, j)
		if err != nil {
			return err
		}
		for _, st := range now.shared {
			if err := st.do(ctx, c); err != nil && !isGone(err) {
				return fmt.Errorf("delete the %s %s: %w", st.change.Kind, st.change.Name, err)
			}
			done = append(done, st.change)
		}
		return nil
	})
	for _, ch := range done {
		report(ch)
	}
	return err
}

// clear takes rules and machines away.
func (c *client) clear(ctx context.Context, r *remnants, report func(provider.Change)) error {
	for _, st := range r.rules {
		if err := st.do(ctx, c); err != nil {
			return err
		}
		if st.change.Verb != "" {
			report(st.change)
		}
	}
	return several(ctx, r.machines, func(ctx context.Context, st step) error {
		if err := st.do(ctx, c); err != nil {
			return err
		}
		report(st.change)
		return nil
	})
}

// deletion powers a machine off and deletes it. Disks that are first class disks are taken off before: they are volumes of the
// cluster's users, which we did not make.
func deletion(m *machine, reason string) step {
	return step{
		change: provider.Change{Verb: provider.Delete, Kind: "machine", Name: m.marks[markNode], Reason: reason},
		do: func(ctx context.Context, c *client) error {
			if err := c.remove(ctx, m); err != nil && !isGone(err) {
				return fmt.Errorf("delete the machine %s: %w", m.path, err)
			}
			return nil
		},
	}
}

func (c *client) remove(ctx context.Context, m *machine) error {
	if m.vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		res, err := methods.PowerOffVM_Task(ctx, c, &types.PowerOffVM_Task{This: m.ref})
		if err == nil {
			_, err = c.finish(ctx, res.Returnval)
		}
		if err != nil && !isInState(err, types.VirtualMachinePowerStatePoweredOff) {
			return err
		}
	}
	if off := m.volumes(); len(off) > 0 {
		if err := c.reconfigure(ctx, m.ref, types.VirtualMachineConfigSpec{DeviceChange: off}); err != nil {
			return fmt.Errorf("take the volumes off: %w", err)
		}
	}
	res, err := methods.Destroy_Task(ctx, c, &types.Destroy_Task{This: m.ref})
	if err == nil {
		_, err = c.finish(ctx, res.Returnval)
	}
	return err
}

// volumes are the changes that take first class disks off a machine, and leave their files.
func (m *machine) volumes() []types.BaseVirtualDeviceConfigSpec {
	var out []types.BaseVirtualDeviceConfigSpec
	if m.vm.Config == nil {
		return nil
	}
	for _, d := range m.vm.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok && disk.VDiskId != nil && disk.VDiskId.Id != "" {
			out = append(out, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: disk})
		}
	}
	return out
}

// removeFolder deletes a folder that was seen to be empty.
func (c *client) removeFolder(ctx context.Context, folder ref) error {
	res, err := methods.Destroy_Task(ctx, c, &types.Destroy_Task{This: folder})
	if err == nil {
		_, err = c.finish(ctx, res.Returnval)
	}
	return err
}
