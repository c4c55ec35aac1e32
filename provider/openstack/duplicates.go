package openstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/provider"
)

// duplicates are second ones of something that is there once only. A request that was cut off may still make something after the next
// run has looked for it and found nothing. Of two the one in use stays, else the older one, and the other is deleted; two in use are an
// error, because nothing here can know which one to lose.
type duplicates struct {
	steps []step
	both  []error
}

func (d *duplicates) err() error { return errors.Join(d.both...) }

// thing is what is to be known of a resource to choose between two.
type thing struct {
	name, id string
	used     bool // something depends on it
	worse    bool // it does not work
	age      time.Time
}

// only returns the resources by name, one of each, and adds the others to the duplicates.
func only[T any](d *duplicates, kind string, all []*T, of func(*T) thing, remove func(id string) func(context.Context) error) map[string]*T {
	byName := map[string][]*T{}
	for _, v := range all {
		byName[of(v).name] = append(byName[of(v).name], v)
	}
	out := map[string]*T{}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		same := byName[name]
		slices.SortFunc(same, func(a, b *T) int { return prefer(of(a), of(b)) })
		out[name] = same[0]
		for _, v := range same[1:] {
			first, second := of(same[0]), of(v)
			if second.used {
				d.both = append(d.both, permanent("openstack: there are two of the %s %s, and both are in use: %s and %s; delete the wrong one", kind, name, first.id, second.id))
				continue
			}
			d.steps = append(d.steps, step{
				at:     stageClean,
				change: provider.Change{Verb: provider.Delete, Kind: kind, Name: name, Reason: fmt.Sprintf("there are two; %s stays, %s goes", first.id, second.id)},
				do:     remove(second.id),
			})
		}
	}
	return out
}

func prefer(a, b thing) int {
	if a.used != b.used {
		return after(b.used)
	}
	if a.worse != b.worse {
		return after(a.worse)
	}
	if c := a.age.Compare(b.age); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(a.id, b.id))
}

func after(yes bool) int {
	if yes {
		return 1
	}
	return -1
}
