package vsphere

// Making machines exist. Every operation may be the last: what the next run finds tells it where to go on.

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// atOnce is how many machines are worked on at the same time; vCenter queues more than 8 clones of one datastore anyway.
const atOnce = 8

// errMoved says that the vCenter is not any more as it was surveyed.
var errMoved = errors.New("something else has changed the cluster's machines in the meantime")

// ensure surveys and takes the steps, again where a clone of an earlier run came in between.
func (c *client) ensure(ctx context.Context, j job, report func(provider.Change)) ([]provider.Machine, error) {
	var err error
	for range attempts {
		var s *survey
		if s, err = c.prepared(ctx, j); err != nil {
			return nil, err
		}
		var w *work
		if w, err = c.compare(ctx, s); err != nil {
			return nil, err
		}
		if err = c.take(ctx, s, w, report); err == nil {
			return c.answer(ctx, s)
		}
		if !errors.Is(err, errMoved) {
			return nil, err
		}
	}
	return nil, err
}

// prepared surveys when no clone of a run that was cut off is on its way any more.
func (c *client) prepared(ctx context.Context, j job) (*survey, error) {
	s, err := c.survey(ctx, j)
	if err != nil {
		return nil, err
	}
	templates := map[ref]bool{}
	for _, w := range s.wishes {
		if w.have == nil && w.shape != nil {
			templates[w.shape.template.ref] = true
		}
	}
	waited, err := c.awaitClones(ctx, templates)
	if err != nil || !waited {
		return s, err
	}
	return c.survey(ctx, j)
}

// awaitClones waits for the clones of templates that are running now, whoever started them; how they end is seen in what is there then.
func (c *client) awaitClones(ctx context.Context, templates map[ref]bool) (bool, error) {
	pc := property.DefaultCollector(c.Client)
	var running []ref
	for t := range templates {
		var vm mo.VirtualMachine
		if err := c.get(ctx, t, []string{"recentTask"}, &vm); err != nil {
			return false, err
		}
		if len(vm.RecentTask) == 0 {
			continue
		}
		var tasks []mo.Task
		err := c.again(ctx, func() error {
			tasks = nil
			return pc.Retrieve(ctx, vm.RecentTask, []string{"info"}, &tasks)
		})
		if err != nil && !isGone(err) {
			return false, err
		}
		for _, k := range tasks {
			if strings.HasPrefix(k.Info.DescriptionId, "VirtualMachine.clone") && !ended(k.Info.State) {
				running = append(running, k.Self)
			}
		}
	}
	if len(running) == 0 {
		return false, nil
	}
	left := map[ref]bool{}
	for _, r := range running {
		left[r] = true
	}
	return true, c.watch(ctx, running, []string{"info.state"}, func(r ref, v map[string]any) bool {
		if ended(v["info.state"]) {
			delete(left, r)
		}
		return len(left) == 0
	})
}

// take takes the steps: what machines share, clones, rules, power, labels.
func (c *client) take(ctx context.Context, s *survey, w *work, report func(provider.Change)) error {
	var made []provider.Change
	err := c.hold(ctx, func() error {
		for _, st := range w.shared {
			err := st.do(ctx, c)
			if fault.Is(err, &types.DuplicateName{}) || isThere(err) {
				return errMoved // the other cluster of the site was faster
			}
			if err != nil {
				return fmt.Errorf("make the %s %s: %w", st.change.Kind, st.change.Name, err)
			}
			made = append(made, st.change)
		}
		return nil
	})
	for _, ch := range made {
		report(ch)
	}
	if err != nil {
		return err
	}
	if err := several(ctx, w.machines, func(ctx context.Context, t *chore) error { return c.build(ctx, s, t) }); err != nil {
		return err
	}
	for _, st := range w.rules {
		if err := st.do(ctx, c); err != nil {
			return err
		}
		report(st.change)
	}
	err = several(ctx, w.machines, func(ctx context.Context, t *chore) error {
		if !t.start {
			return nil
		}
		return c.start(ctx, t.have)
	})
	if err != nil {
		return err
	}
	if err := c.mark(ctx, s, w.machines); err != nil {
		return err
	}
	for _, t := range w.machines {
		if t.change.Verb != "" {
			report(t.change)
		}
	}
	return nil
}

// several does something for every one, a few at once, and goes on with the others when one fails: machines do not depend on each
// other, and the next run finds what was made. errMoved comes before all other errors.
func several[T any](ctx context.Context, all []T, do func(context.Context, T) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	var mu sync.Mutex
	var errs []error
	for _, one := range all {
		g.Go(func() error {
			err := context.Cause(ctx)
			if err == nil {
				err = do(ctx, one)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	_ = g.Wait() // errs has them
	for _, err := range errs {
		if errors.Is(err, errMoved) {
			return errMoved
		}
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return together(errs)
}

// together joins errors; the whole is permanent only if each part is.
func together(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	var passing []error
	texts := make([]string, 0, len(errs))
	for _, err := range errs {
		texts = append(texts, err.Error())
		if !errors.Is(err, provider.ErrPermanent) && meaning(err) == "" {
			passing = append(passing, err)
		}
	}
	if len(passing) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(texts, "; "), passing[0])
	}
	return errors.Join(errs...)
}

// build clones a machine that is missing, or sets what has drifted.
func (c *client) build(ctx context.Context, s *survey, t *chore) error {
	if t.have != nil {
		return c.mend(ctx, t)
	}
	spec, err := c.cloneSpec(ctx, s, t.wish)
	if err != nil {
		return fmt.Errorf("the node %s: %w", t.node.Name, err)
	}
	res, err := methods.CloneVM_Task(ctx, c, &types.CloneVM_Task{This: t.shape.template.ref, Folder: *s.folder, Name: t.node.Name, Spec: spec})
	var result types.AnyType
	if err == nil {
		result, err = c.finish(ctx, res.Returnval)
	}
	if fault.Is(err, &types.DuplicateName{}) {
		return errMoved // a clone of an earlier run
	}
	if err != nil {
		return fmt.Errorf("clone %s for the node %s: %w", t.shape.template.path, t.node.Name, err)
	}
	made, ok := result.(ref)
	if !ok {
		return fmt.Errorf("clone %s for the node %s: the vCenter does not say what it made", t.shape.template.path, t.node.Name)
	}
	marks := map[string]string{}
	for _, o := range spec.Config.ExtraConfig {
		marks[o.GetOptionValue().Key], _ = o.GetOptionValue().Value.(string)
	}
	t.have = &machine{thing: &thing{ref: made, name: t.node.Name, path: s.at.pathOf(*s.folder) + "/" + t.node.Name}, marks: marks}
	return nil
}

// mend sets what has drifted.
func (c *client) mend(ctx context.Context, t *chore) error {
	if t.cpus == 0 && t.memory == 0 && len(t.set) == 0 {
		return nil
	}
	err := c.reconfigure(ctx, t.have.ref, types.VirtualMachineConfigSpec{NumCPUs: t.cpus, MemoryMB: t.memory, DeviceChange: t.set})
	if err != nil {
		return fmt.Errorf("set the machine %s (%s): %w", t.have.path, t.change.Reason, err)
	}
	return nil
}

func (c *client) reconfigure(ctx context.Context, machine ref, spec types.VirtualMachineConfigSpec) error {
	res, err := methods.ReconfigVM_Task(ctx, c, &types.ReconfigVM_Task{This: machine, Spec: spec})
	if err == nil {
		_, err = c.finish(ctx, res.Returnval)
	}
	return err
}

// start powers a machine on.
func (c *client) start(ctx context.Context, m *machine) error {
	res, err := methods.PowerOnVM_Task(ctx, c, &types.PowerOnVM_Task{This: m.ref})
	if err == nil {
		_, err = c.finish(ctx, res.Returnval)
	}
	if err == nil || isInState(err, types.VirtualMachinePowerStatePoweredOn) {
		return nil
	}
	return fmt.Errorf("power on the machine %s: %w", m.path, err)
}

// isInState tells whether a machine refused a power state because it was in it already.
func isInState(err error, state types.VirtualMachinePowerState) bool {
	var f *types.InvalidPowerState
	_, ok := fault.As(err, &f)
	return ok && f.ExistingState == state
}

// mark sets tags, each in one call for all machines, and custom attributes.
func (c *client) mark(ctx context.Context, s *survey, chores []*chore) error {
	untagged := map[string][]mo.Reference{}
	for _, t := range chores {
		for _, id := range t.tags {
			untagged[id] = append(untagged[id], t.have.ref)
		}
		if t.label {
			untagged[s.labels.tag.id] = append(untagged[s.labels.tag.id], t.have.ref)
		}
		if t.note {
			t.notes[s.labels.attribute.key] = attributeValue(s.job, t.node.Name)
		}
	}
	for id, machines := range untagged {
		if err := c.attach(ctx, id, machines); err != nil {
			return fmt.Errorf("set the tag %s: %w", id, err)
		}
	}
	return several(ctx, chores, func(ctx context.Context, t *chore) error {
		for key, value := range t.notes {
			if err := c.setAttribute(ctx, key, t.have.ref, value); err != nil {
				return fmt.Errorf("set the custom attributes of %s: %w", t.have.path, err)
			}
		}
		return nil
	})
}

// answer waits until all guests have reported an address and returns the machines.
func (c *client) answer(ctx context.Context, s *survey) ([]provider.Machine, error) {
	wait := map[ref]*wish{}
	var refs []ref
	for _, w := range s.wishes {
		if w.have == nil || s.shown(w.have, w.node).Address != "" {
			continue
		}
		if w.node.State == inventory.Absent && !w.have.isOn() {
			continue // it will not report one
		}
		wait[w.have.ref] = w
		refs = append(refs, w.have.ref)
	}
	if len(refs) > 0 {
		if err := c.await(ctx, s, refs, wait); err != nil {
			return nil, err
		}
	}
	return s.machines(), nil
}

// await watches what the guests report.
func (c *client) await(ctx context.Context, s *survey, refs []ref, wait map[ref]*wish) error {
	bounded, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	err := c.watch(bounded, refs, []string{"guest.net", "guest.ipAddress", "config.hardware", "runtime.powerState"}, func(r ref, v map[string]any) bool {
		w := wait[r]
		if w == nil {
			return len(wait) == 0
		}
		w.have.update(v)
		if s.shown(w.have, w.node).Address != "" {
			delete(wait, r)
		}
		return len(wait) == 0
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	if bounded.Err() == nil {
		return fmt.Errorf("wait for the guests' addresses: %w", err)
	}
	var silent []string
	for _, w := range wait {
		silent = append(silent, s.silence(w))
	}
	sort.Strings(silent)
	return fmt.Errorf("after %s %s: do the templates have open-vm-tools and cloud-init, does DHCP answer in their network?", c.patience, strings.Join(silent, "; "))
}

// silence says what a guest reports instead of its address.
func (s *survey) silence(w *wish) string {
	got := w.have.guestAddresses(s.vip())
	if len(got) == 0 {
		return "the guest of " + w.have.path + " reports no address"
	}
	return fmt.Sprintf("the guest of %s reports %v, not %s, which the inventory asks for", w.have.path, got, w.node.Address)
}

// update takes in changed properties.
func (m *machine) update(v map[string]any) {
	if m.vm.Guest == nil {
		m.vm.Guest = &types.GuestInfo{}
	}
	if m.vm.Config == nil {
		m.vm.Config = &types.VirtualMachineConfigInfo{}
	}
	if n, ok := v["guest.net"].(types.ArrayOfGuestNicInfo); ok {
		m.vm.Guest.Net = n.GuestNicInfo
	}
	if a, ok := v["guest.ipAddress"].(string); ok {
		m.vm.Guest.IpAddress = a
	}
	if h, ok := v["config.hardware"].(types.VirtualHardware); ok {
		m.vm.Config.Hardware = h
	}
	if p, ok := v["runtime.powerState"].(types.VirtualMachinePowerState); ok {
		m.vm.Runtime.PowerState = p
	}
}

// makeFolder makes a folder for virtual machines, and enters it into the catalog.
func (c *client) makeFolder(ctx context.Context, at *catalog, in ref, name string) (*ref, error) {
	res, err := methods.CreateFolder(ctx, c, &types.CreateFolder{This: in, Name: name})
	if err != nil {
		return nil, err
	}
	at.things[res.Returnval] = &thing{ref: res.Returnval, name: name, path: at.pathOf(in) + "/" + name, parent: &in}
	return &res.Returnval, nil
}
