package vsphere

// Waiting: one property collector watches all objects that somebody waits for.

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// again calls do, and again while its session expired in between, or what lived in that was lost with it. Most calls that an expired
// session refuses are repeated by RoundTrip; an answer can also say of single properties that they are refused.
func (c *client) again(ctx context.Context, do func() error) error {
	for attempt := 1; ; attempt++ {
		c.mu.Lock()
		age := c.age
		c.mu.Unlock()
		err := do()
		expired := fault.Is(err, &types.NotAuthenticated{})
		if attempt == attempts || !expired && !isLost(err) {
			return err
		}
		if expired {
			if err := c.renew(ctx, age); err != nil {
				return err
			}
		}
	}
}

// watch tells see the values of properties of objects of one type, now and whenever they change, until it says that it is enough.
func (c *client) watch(ctx context.Context, objects []types.ManagedObjectReference, properties []string,
	see func(types.ManagedObjectReference, map[string]any) (enough bool)) error {
	return c.again(ctx, func() error { return c.watchOnce(ctx, objects, properties, see) })
}

func (c *client) watchOnce(ctx context.Context, objects []types.ManagedObjectReference, properties []string,
	see func(types.ManagedObjectReference, map[string]any) bool) error {
	made, err := methods.CreatePropertyCollector(ctx, c, &types.CreatePropertyCollector{This: c.ServiceContent.PropertyCollector})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		_, _ = methods.DestroyPropertyCollector(ctx, c, &types.DestroyPropertyCollector{This: made.Returnval}) // it ends with the session
	}()
	set := make([]types.ObjectSpec, 0, len(objects))
	for _, o := range objects {
		set = append(set, types.ObjectSpec{Obj: o})
	}
	_, err = methods.CreateFilter(ctx, c, &types.CreateFilter{This: made.Returnval, Spec: types.PropertyFilterSpec{
		ObjectSet: set, PropSet: []types.PropertySpec{{Type: objects[0].Type, PathSet: properties}},
	}})
	if err != nil {
		return err
	}
	seconds := int32(30) // the answer comes earlier when there is one; the call in between keeps the session alive
	req := types.WaitForUpdatesEx{This: made.Returnval, Options: &types.WaitOptions{MaxWaitSeconds: &seconds}}
	for {
		res, err := methods.WaitForUpdatesEx(ctx, c, &req)
		if err != nil {
			return err
		}
		if res.Returnval == nil {
			continue
		}
		req.Version = res.Returnval.Version
		enough := false
		for _, f := range res.Returnval.FilterSet {
			for _, u := range f.ObjectSet {
				if u.Kind == types.ObjectUpdateKindLeave {
					return fmt.Errorf("%s was deleted while it was waited for", u.Obj)
				}
				values := map[string]any{}
				for _, p := range u.ChangeSet {
					values[p.Name] = p.Val
				}
				enough = see(u.Obj, values) || enough
			}
		}
		if enough {
			return nil
		}
	}
}

// finish waits for a task and returns its result. A task that failed, however late, is an error that wraps its fault.
func (c *client) finish(ctx context.Context, ref types.ManagedObjectReference) (types.AnyType, error) {
	err := c.watch(ctx, []types.ManagedObjectReference{ref}, []string{"info.state"},
		func(_ types.ManagedObjectReference, v map[string]any) bool { return ended(v["info.state"]) })
	if err != nil {
		return nil, err
	}
	var t mo.Task
	if err := c.get(ctx, ref, []string{"info"}, &t); err != nil {
		return nil, err
	}
	if t.Info.Error != nil {
		return nil, task.Error{LocalizedMethodFault: t.Info.Error, Description: t.Info.Description}
	}
	return t.Info.Result, nil
}

func ended(state any) bool {
	s, _ := state.(types.TaskInfoState)
	return s == types.TaskInfoStateSuccess || s == types.TaskInfoStateError
}
