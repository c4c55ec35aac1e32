// Package canary makes something happen in the workload cluster that must leave a trace, once for each channel, and waits
// until the trace is seen in the service cluster: a pod's log line, an audited request, a refused SSH login, an event that
// Falco reports, and the metrics. It measures how long each took.
package canary

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/query"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Kind is the document's kind.
const Kind = "canary"

// Reader is what is asked of the service cluster; query.Stores implements it.
type Reader interface {
	Logs(ctx context.Context, tenant, query string, from, to time.Time, limit int) ([]query.Entry, error)
	Metrics(ctx context.Context, query string) ([]query.Sample, error)
	Sequences(ctx context.Context) (map[string]uint64, error)
}

// Bucket is what is asked of the store of locked objects.
type Bucket interface {
	Get(ctx context.Context, key string, first int64) ([]byte, error)
	Head(ctx context.Context, key string) (chain.Info, error)
}

// Channel is one way that evidence takes.
type Channel struct {
	Name string
	// What is done, for people.
	Deed string
	// Selector is a LogQL stream selector's inside, beside the tenant.
	Selector string
	// Fire does it. It returns when it is done, not when it is seen.
	Fire func(ctx context.Context, marker string) error
	// Is tells whether a record (its JSON, as the gateway stores it) is the trace of it.
	Is func(record []byte, marker string) bool
}

// Options are a run's.
type Options struct {
	// Tenant is the workload cluster's name in the service cluster.
	Tenant string
	Reader Reader
	// Channels are those of logs. Metrics are always looked at.
	Channels []Channel
	// Timeout is how long a trace may take to be seen. Default 60 s.
	Timeout time.Duration
	// Bucket, when set, makes the run wait until the locked object that holds the trace is found too, at most BucketTimeout
	// (default 30 min).
	Bucket        Bucket
	BucketTimeout time.Duration
	// MaxAge is how old the newest sample of the tenant's metrics may be. Default 60 s.
	MaxAge time.Duration
	// FireTimeout bounds what is done for one channel. Default 90 s.
	FireTimeout time.Duration
	// Poll is the pause between two looks. Default 500 ms.
	Poll time.Duration
	// Report is told what is going on; it may be nil and is called by several goroutines.
	Report func(channel, state string)
}

// Result is how one channel fared.
type Result struct {
	Channel string    `json:"channel"`
	Deed    string    `json:"deed"`
	Marker  string    `json:"marker,omitempty"`
	Fired   time.Time `json:"fired"`
	// Seen is when it was first found in the service cluster; nil: it was not. Latency is in seconds from Fired; for metrics, the age of the newest sample.
	Seen    *time.Time `json:"seen,omitempty"`
	Latency float64    `json:"latencySeconds,omitempty"`
	// Object is the locked object that holds it, Locked the end of its lock, ObjectLatency seconds from Fired until it was
	// found there.
	Object        string     `json:"object,omitempty"`
	Locked        *time.Time `json:"lockedUntil,omitempty"`
	ObjectLatency float64    `json:"objectLatencySeconds,omitempty"`
	Detail        string     `json:"detail,omitempty"`
	// NotDone says why nothing could be done at all; Failed why it was not seen.
	NotDone string `json:"notDone,omitempty"`
	Failed  string `json:"failed,omitempty"`
}

func (o *Options) defaults() {
	for _, d := range []struct {
		value *time.Duration
		to    time.Duration
	}{
		{&o.Timeout, time.Minute}, {&o.BucketTimeout, 30 * time.Minute}, {&o.MaxAge, time.Minute}, {&o.Poll, 500 * time.Millisecond},
		{&o.FireTimeout, 90 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.to
		}
	}
	if o.Report == nil {
		o.Report = func(string, string) {}
	}
}

// Run fires all canaries at once and waits for each. The error says that nothing was tried.
func Run(ctx context.Context, s verify.Subject, o Options) (verify.Document, error) {
	o.defaults()
	d := verify.New(Kind, "Canaries", fmt.Sprintf(
		"What happens in the workload cluster %s is seen in the service cluster within %s.", o.Tenant, o.Timeout), s)
	first := uint64(0)
	if o.Bucket != nil {
		ends, err := o.Reader.Sequences(ctx)
		if err != nil {
			return d, fmt.Errorf("where the chain of %s ends now: %w", o.Tenant, err)
		}
		first = max(ends[o.Tenant], 1)
	}
	results := make([]Result, len(o.Channels)+1)
	var wg sync.WaitGroup
	for i, c := range o.Channels {
		wg.Go(func() { results[i] = o.channel(ctx, c, first) })
	}
	wg.Go(func() { results[len(o.Channels)] = o.metrics(ctx) })
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return d, err
	}
	o.tell(&d, results)
	return d, nil
}

// NewMarker names one canary. It fits a user name of Linux and a name of Kubernetes.
func NewMarker() (string, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return "canary-" + hex.EncodeToString(b[:]), nil
}

// channel does one deed and waits for its trace.
func (o *Options) channel(ctx context.Context, c Channel, first uint64) Result {
	r := Result{Channel: c.Name, Deed: c.Deed, Fired: time.Now().UTC()}
	var err error
	if r.Marker, err = NewMarker(); err != nil {
		r.NotDone = err.Error()
		return r
	}
	o.Report(c.Name, "fire")
	// what is found before Fire has returned counts, but the clock starts when it is done
	began := r.Fired
	if err := o.fire(ctx, c, r.Marker); err != nil {
		r.NotDone = err.Error()
		o.Report(c.Name, "could not be fired: "+err.Error())
		return r
	}
	r.Fired = time.Now().UTC()
	selector := fmt.Sprintf("{cluster=%q%s} |= %q", o.Tenant, prefixed(c.Selector), r.Marker)
	err = o.poll(ctx, o.Timeout, func(ctx context.Context) (bool, error) {
		found, err := o.Reader.Logs(ctx, o.Tenant, selector, began.Add(-time.Minute), time.Now().Add(time.Minute), 100)
		for _, e := range found {
			if c.Is([]byte(e.Line), r.Marker) {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		r.Failed = fmt.Sprintf("not seen within %s: %v", o.Timeout, err)
		o.Report(c.Name, r.Failed)
	} else {
		now := time.Now().UTC()
		r.Seen, r.Latency = &now, now.Sub(r.Fired).Seconds()
		o.Report(c.Name, fmt.Sprintf("seen after %.1f s", r.Latency))
	}
	if o.Bucket != nil {
		o.object(ctx, c, first, &r)
	}
	return r
}

func (o *Options) fire(ctx context.Context, c Channel, marker string) error {
	ctx, cancel := context.WithTimeout(ctx, o.FireTimeout)
	defer cancel()
	return c.Fire(ctx, marker)
}

func prefixed(selector string) string {
	if selector == "" {
		return ""
	}
	return ", " + selector
}

// errNotYet says that it was asked and nothing was found.
var errNotYet = fmt.Errorf("nothing was found")

// poll asks until it is so, or until the time is over: then it returns what the last try failed with, or errNotYet.
func (o *Options) poll(ctx context.Context, limit time.Duration, ask func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(o.Poll)
	defer tick.Stop()
	last := errNotYet
	for {
		ok, err := ask(ctx)
		switch {
		case ok:
			return nil
		case err != nil && ctx.Err() == nil:
			last = err
		case err == nil:
			last = errNotYet
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// metrics looks for young samples of the tenant.
func (o *Options) metrics(ctx context.Context) Result {
	r := Result{Channel: "metrics", Deed: "nothing: targets are scraped all the time", Fired: time.Now().UTC()}
	newest := fmt.Sprintf("max(timestamp(up{tenant_id=%q}))", o.Tenant)
	count := fmt.Sprintf("count(up{tenant_id=%q} == 1)", o.Tenant)
	var age time.Duration
	err := o.poll(ctx, o.Timeout, func(ctx context.Context) (bool, error) {
		found, err := o.Reader.Metrics(ctx, newest)
		if err != nil || len(found) != 1 {
			return false, err
		}
		age = time.Since(time.UnixMilli(int64(found[0].Value * 1000)))
		if age > o.MaxAge {
			return false, fmt.Errorf("the newest sample is %s old, at most %s is good", age.Round(time.Second), o.MaxAge)
		}
		up, err := o.Reader.Metrics(ctx, count)
		if err != nil || len(up) != 1 {
			return false, err
		}
		r.Detail = fmt.Sprintf("%.0f targets up, newest sample %.1f s old", up[0].Value, age.Seconds())
		return up[0].Value > 0, nil
	})
	if err != nil {
		r.Failed = fmt.Sprintf("not seen within %s: %v", o.Timeout, err)
		o.Report(r.Channel, r.Failed)
		return r
	}
	now := time.Now().UTC()
	r.Seen, r.Latency = &now, age.Seconds()
	o.Report(r.Channel, r.Detail)
	return r
}
