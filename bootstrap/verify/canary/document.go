package canary

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

// Data is what the document holds for programs.
type Data struct {
	Tenant  string   `json:"tenant"`
	Results []Result `json:"results"`
}

// tell fills the document and judges it: not seen is a breach of the claim, not done is unjudged.
func (o *Options) tell(d *verify.Document, results []Result) {
	d.Ended = time.Now()
	d.Fact("tenant", o.Tenant)
	t := verify.Table{Title: "Channels", Columns: []string{"channel", "what was done", "marker", "seen after", "locked object", "found after", "more"}}
	seen, slowest := 0, 0.0
	for _, r := range results {
		row := []string{r.Channel, r.Deed, r.Marker, "not seen", "", "", r.Detail}
		if r.Seen != nil {
			seen++
			slowest = max(slowest, r.Latency)
			row[3] = fmt.Sprintf("%.1f s", r.Latency)
		}
		if r.Locked != nil {
			row[4] = fmt.Sprintf("%s until %s", r.Object, r.Locked.Format(time.DateOnly))
			row[5] = fmt.Sprintf("%.1f s", r.ObjectLatency)
		}
		switch {
		case r.NotDone != "":
			row[3] = "not done"
			d.Add(verify.Unknown, r.Channel, "could not be tried: "+r.NotDone)
		case r.Failed != "":
			d.Add(verify.Breach, r.Channel, r.Failed)
		}
		t.Rows = append(t.Rows, row)
	}
	d.Fact("seen", fmt.Sprintf("%d of %d channels, the slowest after %.1f s", seen, len(results), slowest))
	if o.Bucket == nil {
		d.Add(verify.Note, "locked objects", "not looked at: `catamaran verify canary --bucket` waits for them too")
	}
	d.Tables = append(d.Tables, t)
	d.Data, _ = json.Marshal(Data{Tenant: o.Tenant, Results: results}) //nolint:errchkjson // plain data
	d.Judge()
}
