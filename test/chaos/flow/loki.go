package flow

import (
	"context"
	"fmt"
	"time"
)

// page is how many entries Loki gives at once at most, as it comes.
const page = 5000

// Loki is what was found there.
type Loki struct {
	Lines   int
	Missing []Lines
	// More are entries of lines that were found before.
	More  int
	Alien []string
}

// loki reads every entry of every writer.
func (f *Flow) loki(ctx context.Context) (Loki, error) {
	t := newTally(f.namespace, f.writers)
	for _, w := range f.writers {
		if err := f.page(ctx, t, fmt.Sprintf(`{namespace=%q, pod=%q}`, f.namespace, w.name)); err != nil {
			return Loki{}, err
		}
	}
	return Loki{Lines: t.seen, Missing: t.missing(), More: len(t.again), Alien: t.alien}, nil
}

// page goes through the entries of one stream. A page begins with the time of the last entry of the one before, since others
// may have the same time.
func (f *Flow) page(ctx context.Context, t *tally, query string) error {
	from, to := f.begun.Add(-5*time.Minute), time.Now().Add(time.Minute)
	had := map[string]bool{} // entries at the time from
	for {
		entries, err := f.site.stores.Logs(ctx, f.site.tenant, query, from, to, page)
		if err != nil {
			return err
		}
		fresh := 0
		for _, e := range entries {
			if e.At.Equal(from) && had[e.Line] {
				continue
			}
			fresh++
			if e.At.After(from) {
				from, had = e.At, map[string]bool{}
			}
			had[e.Line] = true
			if err := t.line([]byte(e.Line), sighting{printed: e.At.UnixNano()}, time.Time{}); err != nil {
				return err
			}
		}
		if len(entries) < page {
			return nil
		}
		if fresh == 0 {
			return fmt.Errorf("Loki has more than %d entries of %s at %s: they can not be paged", page, query, from)
		}
	}
}
