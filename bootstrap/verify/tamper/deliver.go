package tamper

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

// own is a session with the tenant's certificate at a door that answers.
func (a *attack) own(ctx context.Context, role Role) *session {
	for _, t := range a.targets {
		if t.Role != role {
			continue
		}
		for _, c := range a.credentials {
			if !c.Own {
				continue
			}
			s := a.session(t, c)
			if conn, err := s.connect(ctx); err == nil {
				_ = conn.Close() // the session makes its own
				return s
			}
		}
	}
	return nil
}

// arrival is a marker on its way.
type arrival struct {
	name string
	seen func(context.Context) (bool, error)
	err  error
}

// deliver sends a marker on every channel, and waits until each is seen in the service cluster.
func (a *attack) deliver(ctx context.Context) {
	var waiting []*arrival
	for _, n := range a.Workload.Nodes {
		word := a.run + "-journal-" + n.Name()
		if _, err := n.Run(ctx, remote.Command{Script: "logger -t catamaran-verify " + word, Root: true}); err != nil {
			a.unknown(n.Name(), "a marker could not be written to its journal: "+err.Error())
			continue
		}
		waiting = append(waiting, a.inLogs("journal of "+n.Name(), word))
	}
	audit := a.run + "-audit"
	// it is not there; the question is what is audited
	_, _ = a.Workload.Client.CoreV1().Secrets(metav1.NamespaceDefault).Get(ctx, audit, metav1.GetOptions{})
	waiting = append(waiting, a.inLogs("audit log", audit))
	if s := a.own(ctx, Logs); s == nil {
		a.unknown(string(Logs), "no certificate of tenant "+a.Tenant+" was found, or the door does not answer: a marker could not be delivered")
	} else {
		if res := s.forward(ctx, forged{tag: "host.journal"}); res.outcome == Succeeded {
			waiting = append(waiting, a.inLogs("door for logs", a.run+" forged: host.journal"))
		} else {
			a.unknown(string(Logs), fmt.Sprintf("the tenant's own record was not acknowledged: %s (%s)", res.outcome, res.detail))
		}
	}
	if s := a.own(ctx, Metrics); s == nil {
		a.unknown(string(Metrics), "no certificate of tenant "+a.Tenant+" was found, or the door does not answer: a marker could not be delivered")
	} else {
		r := Request{Method: post, Path: "/api/v1/receive", Write: markerSample}
		if res := s.try(ctx, r); res.outcome == Succeeded {
			waiting = append(waiting, &arrival{name: "door for metrics", seen: func(ctx context.Context) (bool, error) {
				found, err := a.Stores.Metrics(ctx, a.markerQuery())
				return len(found) > 0, err
			}})
		} else {
			a.unknown(string(Metrics), fmt.Sprintf("the tenant's own sample was not accepted: %s (%s)", res.outcome, res.detail))
		}
		s.close()
	}
	a.await(ctx, waiting)
}

func (a *attack) inLogs(name, word string) *arrival {
	return &arrival{name: name, seen: func(ctx context.Context) (bool, error) {
		found, err := a.Stores.Logs(ctx, a.Tenant, containing(word), a.vars.now.Add(-time.Minute), time.Now().Add(time.Minute), 1)
		return len(found) > 0, err
	}}
}

// containing is LogQL for all records with a word.
func containing(word string) string { return fmt.Sprintf("{source=~\".+\"} |= %q", word) }

// await asks until all have arrived or Wait is over.
func (a *attack) await(ctx context.Context, waiting []*arrival) {
	begin := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	arrived := 0
	for len(waiting) > 0 && time.Since(begin) < a.Wait {
		var still []*arrival
		for _, w := range waiting {
			ok, err := w.seen(ctx)
			if w.err = err; !ok {
				still = append(still, w)
				continue
			}
			arrived++
		}
		if waiting = still; len(waiting) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	for _, w := range waiting {
		text := fmt.Sprintf("the marker was not seen in the service cluster within %s: is this channel delivered?", a.Wait)
		if w.err != nil {
			text += " The last question failed: " + w.err.Error()
		}
		a.unknown(w.name, text)
	}
	a.doc.Fact("markers seen in the service cluster", fmt.Sprintf("%d of %d", arrived, arrived+len(waiting)))
}
