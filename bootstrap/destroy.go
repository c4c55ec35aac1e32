package bootstrap

import (
	"context"
	"errors"
	"sort"
	"sync"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Destruction is what Destroy would delete.
type Destruction struct {
	Site    string        `json:"site"`
	Changes []plan.Change `json:"changes"`
	// Adopted are machines that somebody else made, sorted: they stay as they are.
	Adopted []string `json:"adopted,omitempty"`
	// Unknown says why it can not be told which machines are adopted; none of them is deleted all the same.
	Unknown string `json:"unknown,omitempty"`
}

// DestroyOptions say how a destroy behaves.
type DestroyOptions struct {
	// Approve is shown what goes and says whether to go on; nil goes on.
	Approve func(Destruction) (bool, error)
	// Events receive each cluster's begin, changes and end.
	Events  func(plan.Event)
	Version string
}

// Destroy deletes what the providers made for both clusters, at the same time. It looks at no machine, and works where nodes'
// settings are not valid any more. Machines that are adopted are not touched; vault and journal stay.
func (s *Site) Destroy(ctx context.Context, o DestroyOptions) (Destruction, error) {
	lock, err := plan.Acquire(s.wanted.SiteDir(), s.holder("destroy"))
	if err != nil {
		return Destruction{}, err
	}
	defer lock.Release()
	d, err := s.planDestroy(ctx)
	if err != nil || len(d.Changes) == 0 {
		return d, err
	}
	if o.Approve != nil {
		if ok, err := o.Approve(d); err != nil || !ok {
			return d, err
		}
	}
	journal, err := s.openJournal(o.Version, plan.Plan{Digest: plan.Digest(plan.Plan{Changes: d.Changes})})
	if err != nil {
		return d, err
	}
	emit := emitter(journal, o.Events)
	err = s.eachCluster(func(p provider.Provider, r provider.Request) error {
		return phase(emit, string(r.Cluster)+"/machines", "delete the machines", func(report func(provider.Change)) error {
			return p.Destroy(ctx, r, report)
		})
	})
	if err == nil {
		err = s.await(nil)
	}
	return d, errors.Join(err, journal.Close())
}

func (s *Site) planDestroy(ctx context.Context) (Destruction, error) {
	d := Destruction{Site: s.wanted.Metadata.Name, Changes: []plan.Change{}}
	changes := map[inventory.ClusterName][]provider.Change{}
	var mu sync.Mutex
	err := s.eachCluster(func(p provider.Provider, r provider.Request) error {
		list, err := p.PlanDestroy(ctx, r)
		if err != nil {
			return err
		}
		have, err := p.Plan(ctx, r)
		mu.Lock()
		defer mu.Unlock()
		changes[r.Cluster] = list
		if err != nil {
			d.Unknown = err.Error()
		}
		for _, m := range have.Machines {
			if m.Adopted {
				d.Adopted = append(d.Adopted, m.Name)
			}
		}
		return nil
	})
	for _, c := range s.wanted.ClusterNames() {
		for _, change := range changes[c] {
			d.Changes = append(d.Changes, plan.Change{Cluster: c, Change: change})
		}
	}
	sort.Strings(d.Adopted)
	return d, err
}
