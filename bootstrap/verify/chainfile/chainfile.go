// Package chainfile verifies the evidence chains of a site as they lie in the store: every object's hash, number and lock,
// that the chain goes on from where it was seen last, and that it reaches to where the gateway says it does.
package chainfile

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Kind is the document's kind.
const Kind = "chain"

// Data is what the document holds for programs, and what the next verification begins with.
type Data struct {
	Reports []chain.Report `json:"reports"`
	// Ends are the points up to which each tenant's chain was found whole, the latest of all verifications.
	Ends map[string]chain.Point `json:"ends"`
}

// Options are a verification's.
type Options struct {
	Archive chain.Archive
	Tenants []string
	// Known are the ends of earlier verifications, see Data.Ends.
	Known map[string]chain.Point
	// Begin is the first number that must be there; 0: 1. Higher where objects were removed after their retention.
	Begin uint64
	// Sequences asks the gateway for the newest number of each tenant.
	Sequences func(context.Context) (map[string]uint64, error)
	// MinRetention is the least that objects must be locked for; 0: what each says itself.
	MinRetention time.Duration
	// Parallel is how many objects are read at once, default 8.
	Parallel int
	// Progress is told how many objects of a tenant were read; it may be nil and is called by several goroutines.
	Progress func(tenant string, objects, bytes int64)
}

// Run verifies all chains, one after the other. What could not be read is a finding; the error says that the context ended.
func Run(ctx context.Context, s verify.Subject, o Options) (verify.Document, error) {
	d := verify.New(Kind, "Evidence chain",
		"Every object of each workload cluster's evidence is there, unchanged, in order and under COMPLIANCE lock, up to the newest.", s)
	data := Data{Reports: []chain.Report{}, Ends: map[string]chain.Point{}}
	for tenant, p := range o.Known {
		data.Ends[tenant] = p
	}
	// before the objects are listed: what comes meanwhile may be missing in the one, never in the other
	numbers, err := o.Sequences(ctx)
	if err != nil {
		d.Add(verify.Unknown, "ingest gateway", "could not be asked where the chains end, so objects missing at their ends show only against the last verification: "+err.Error())
	}
	if len(o.Tenants) == 0 {
		d.Add(verify.Unknown, "tenants", "there is none to verify")
	}
	t := verify.Table{Title: "Chains", Columns: []string{"tenant", "objects", "from", "to", "gateway says", "known before", "records", "bytes", "newest", "findings"}}
	for _, tenant := range o.Tenants {
		known, seen := o.Known[tenant]
		if !seen {
			d.Add(verify.Note, tenant, "there is no earlier verification to compare the chain's end with")
		}
		report, err := o.verify(ctx, tenant, known, seen)
		if ctx.Err() != nil {
			return d, ctx.Err()
		}
		if err != nil {
			d.Add(verify.Unknown, tenant, "the chain could not be read: "+err.Error())
			continue
		}
		judge(&d, report, numbers)
		data.Reports = append(data.Reports, report)
		if report.OK() && report.Last.Sequence >= known.Sequence {
			data.Ends[tenant] = report.Last
		}
		t.Rows = append(t.Rows, row(report, numbers, known, seen))
	}
	d.Tables = append(d.Tables, t)
	d.Ended = time.Now()
	d.Data, _ = json.Marshal(data) //nolint:errchkjson // plain data
	d.Judge()
	return d, nil
}

// verify reads one chain. A known end below Begin was removed on purpose, after its retention.
func (o *Options) verify(ctx context.Context, tenant string, known chain.Point, seen bool) (chain.Report, error) {
	opt := chain.VerifyOptions{Tenant: tenant, Begin: o.Begin, MinRetention: o.MinRetention, Parallel: o.Parallel}
	if seen && known.Sequence >= o.Begin {
		opt.Known = &known
	}
	return chain.Verify(ctx, &counted{Archive: o.Archive, tenant: tenant, progress: o.Progress}, opt)
}

// judge turns what was found into findings of the document.
func judge(d *verify.Document, r chain.Report, numbers map[string]uint64) {
	for _, f := range r.Findings {
		subject := r.Tenant
		if f.Key != "" {
			subject = f.Key
		}
		d.Add(verify.Breach, subject, fmt.Sprintf("%s at number %d: %s", f.Kind, f.Sequence, f.Detail))
	}
	if r.Dropped > 0 {
		d.Add(verify.Breach, r.Tenant, fmt.Sprintf("%d more findings are not listed", r.Dropped))
	}
	if numbers == nil {
		return
	}
	said, ok := numbers[r.Tenant]
	switch {
	case !ok:
		d.Add(verify.Unknown, r.Tenant, "the ingest gateway knows no chain of this tenant")
	case said > r.Last.Sequence:
		d.Add(verify.Breach, r.Tenant, fmt.Sprintf("the gateway wrote up to number %d, the store ends at %d: %d objects are missing at the end",
			said, r.Last.Sequence, said-r.Last.Sequence))
	}
	if r.Objects == 0 && r.OK() && said == 0 {
		d.Add(verify.Unknown, r.Tenant, "there is no evidence yet: nothing was verified")
	}
}

func row(r chain.Report, numbers map[string]uint64, known chain.Point, seen bool) []string {
	said, before, newest := "not asked", "never verified", ""
	if n, ok := numbers[r.Tenant]; ok {
		said = fmt.Sprint(n)
	}
	if seen {
		before = fmt.Sprint(known.Sequence)
	}
	if !r.Newest.IsZero() {
		newest = r.Newest.UTC().Format(time.DateTime)
	}
	return []string{
		r.Tenant, fmt.Sprint(r.Objects), fmt.Sprint(r.First), fmt.Sprint(r.Last.Sequence), said, before,
		fmt.Sprint(r.Records), fmt.Sprint(r.Bytes), newest, fmt.Sprint(len(r.Findings) + r.Dropped),
	}
}

// counted tells how far the reading is.
type counted struct {
	chain.Archive
	tenant         string
	progress       func(tenant string, objects, bytes int64)
	objects, bytes atomic.Int64
	mu             sync.Mutex
}

// Object implements chain.Archive.
func (c *counted) Object(ctx context.Context, key, version string) ([]byte, chain.Info, error) {
	body, info, err := c.Archive.Object(ctx, key, version)
	if err == nil && c.progress != nil {
		objects, size := c.objects.Add(1), c.bytes.Add(int64(len(body)))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.progress(c.tenant, objects, size)
	}
	return body, info, err
}
