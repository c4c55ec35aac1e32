package tamper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify/query"
)

// Stores is what is read of the service cluster, as its operator.
type Stores interface {
	Logs(ctx context.Context, tenant, query string, from, to time.Time, limit int) ([]query.Entry, error)
	Metrics(ctx context.Context, query string) ([]query.Sample, error)
	// Versions yields all versions of all objects of the evidence's bucket, ordered by key.
	Versions(ctx context.Context) iter.Seq2[Version, error]
	Object(ctx context.Context, key, version string) ([]byte, error)
}

// Version is one version of an object.
type Version struct {
	Key, ID, ETag string
	Size          int64 // bytes
	// Deleted says that it is a delete marker.
	Deleted bool
}

const (
	// logsBefore and logsAfter bound the records that are compared; more are read afterwards, since appended ones stand between.
	logsBefore, logsAfter = 4000, 5000
	// objectsRead is how many of the newest objects are read as a whole; of the others name, version, size and ETag are compared.
	objectsRead = 50
	// versionsRead bounds the list of versions.
	versionsRead = 200000
)

// snapshot is what the service cluster holds, by digests.
type snapshot struct {
	at      time.Time
	logs    map[string]string // time, labels -> digest of the line; the same record twice counts twice
	objects map[string]string // key and version -> size and ETag
	bodies  map[string]string // key and version -> SHA-256
	metrics map[string]string // labels -> value
	keys    map[string]int    // key -> versions, delete markers included
	// key and version are the newest object.
	key, version string
	failed       map[string]error // channel -> why it could not be read
}

// background are series that every workload cluster delivers and that change seldom.
const background = "up|kube_node_info|node_boot_time_seconds|scrape_samples_scraped"

func (a *attack) markerQuery() string {
	return fmt.Sprintf("last_over_time(%s{run=%q,tenant_id=%q}[10m] @ %d)", marker, a.run, a.Tenant, a.vars.now.Add(-markerAge).Add(time.Second).Unix())
}

// read takes a snapshot of what was delivered until a time.
func (a *attack) read(ctx context.Context, at time.Time, limit int) snapshot {
	s := snapshot{at: at, logs: map[string]string{}, objects: map[string]string{}, bodies: map[string]string{}, metrics: map[string]string{}, keys: map[string]int{}, failed: map[string]error{}}
	for _, q := range []string{`{source=~".+"}`, containing(a.run)} {
		entries, err := a.Stores.Logs(ctx, a.Tenant, q, at.Add(-time.Hour), at, limit)
		if err != nil {
			s.failed["logs"] = err
		}
		seen := map[string]int{}
		for _, e := range entries {
			id := fmt.Sprintf("%d %s %s", e.At.UnixNano(), labels(e.Labels), digest([]byte(e.Line)))
			seen[id]++
			s.logs[fmt.Sprintf("%s %d", id, seen[id])] = "there"
		}
	}
	for _, q := range []string{
		fmt.Sprintf("last_over_time({tenant_id=%q,__name__=~%q}[10m] @ %d)", a.Tenant, background, at.Add(-time.Minute).Unix()), a.markerQuery(),
	} {
		samples, err := a.Stores.Metrics(ctx, q)
		if err != nil {
			s.failed["metrics"] = err
		}
		for _, x := range samples {
			s.metrics[labels(x.Labels)] = fmt.Sprint(x.Value)
		}
	}
	if err := a.readObjects(ctx, &s); err != nil {
		s.failed["objects"] = err
	}
	return s
}

func (a *attack) readObjects(ctx context.Context, s *snapshot) error {
	var newest []Version
	n := 0
	for v, err := range a.Stores.Versions(ctx) {
		if err != nil {
			return err
		}
		if n++; n > versionsRead {
			return fmt.Errorf("the bucket has more than %d versions", versionsRead)
		}
		s.keys[v.Key]++
		s.objects[v.Key+" "+v.ID] = fmt.Sprintf("%d bytes, ETag %s, deleted %t", v.Size, v.ETag, v.Deleted)
		if !v.Deleted && strings.HasPrefix(v.Key, a.Tenant+"/") {
			if newest = append(newest, v); len(newest) > objectsRead {
				newest = newest[1:]
			}
		}
	}
	for _, v := range newest {
		body, err := a.Stores.Object(ctx, v.Key, v.ID)
		if err != nil {
			return err
		}
		s.bodies[v.Key+" "+v.ID] = digest(body)
		s.key, s.version = v.Key, v.ID
	}
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// labels is one form of a label set.
func labels(m map[string]string) string {
	b, err := json.Marshal(m) // sorted by key
	if err != nil {
		return fmt.Sprint(m)
	}
	return string(b)
}

// settle reads until two snapshots agree: what is on its way must not look like a change.
func (a *attack) settle(ctx context.Context) snapshot {
	const tries = 6
	at := time.Now()
	before := a.read(ctx, at, logsBefore)
	for range tries {
		again := a.read(ctx, at, logsAfter)
		lost, changed := differences(before.logs, again.logs)
		lost2, changed2 := differences(before.metrics, again.metrics)
		if len(lost)+len(changed)+len(lost2)+len(changed2) == 0 {
			break
		}
		before = a.read(ctx, at, logsBefore)
	}
	for _, channel := range slices.Sorted(maps.Keys(before.failed)) {
		a.unknown(channel, "what was delivered could not be read before the attack: "+before.failed[channel].Error())
	}
	for channel, n := range map[string]int{"logs": len(before.logs), "objects": len(before.objects), "metrics": len(before.metrics)} {
		if n == 0 && before.failed[channel] == nil {
			a.unknown(channel, "nothing was delivered before the attack, so there was nothing to change")
		}
	}
	return before
}

// differences are what is in before and not in after, and what is in both and not the same. What is new is no difference.
func differences(before, after map[string]string) (lost, changed []string) {
	for _, k := range slices.Sorted(maps.Keys(before)) {
		switch now, ok := after[k]; {
		case !ok:
			lost = append(lost, k)
		case now != before[k]:
			changed = append(changed, k)
		}
	}
	return lost, changed
}

// compare reads again; everything that was there must be there, unchanged, and no object may have a new version.
func (a *attack) compare(ctx context.Context, before snapshot) {
	after := a.read(ctx, before.at, logsAfter)
	rows := [][]string{}
	for _, c := range []struct {
		name, channel string
		before, after map[string]string
	}{
		{"log records", "logs", before.logs, after.logs},
		{"objects and their versions", "objects", before.objects, after.objects},
		{"contents of the newest objects", "objects", before.bodies, after.bodies},
		{"values of metrics", "metrics", before.metrics, after.metrics},
	} {
		if before.failed[c.channel] == nil && after.failed[c.channel] != nil {
			a.unknown(c.channel, "what was delivered could not be read after the attack: "+after.failed[c.channel].Error())
		}
		if before.failed[c.channel] != nil || after.failed[c.channel] != nil {
			continue
		}
		if c.name == "contents of the newest objects" {
			c.after = maps.Clone(c.after)
			a.readAgain(ctx, before, c.after)
		}
		lost, changed := differences(c.before, c.after)
		for _, x := range lost {
			a.breach(c.name, "was delivered before the attack and is gone after it: "+sameAs(x, 300))
		}
		for _, x := range changed {
			a.breach(c.name, fmt.Sprintf("was %s before the attack and is %s after it: %s", sameAs(c.before[x], 100), sameAs(c.after[x], 100), sameAs(x, 300)))
		}
		rows = append(rows, []string{c.name, fmt.Sprint(len(c.before)), whole(c.before), fmt.Sprint(len(lost)), fmt.Sprint(len(changed))})
	}
	for _, key := range slices.Sorted(maps.Keys(after.keys)) {
		if had, ok := before.keys[key]; ok && after.keys[key] > had {
			a.breach("objects and their versions", "an object was overwritten or a delete marker put on it (the old version is still there): "+key)
		}
		if strings.HasPrefix(key, other+"/") {
			a.breach("objects and their versions", "an object was stored in another tenant's name: "+key)
		}
	}
	a.doc.Tables = append(a.doc.Tables, tableOf("What was delivered, before and after", "The digest is over everything that was compared, as it was before; what was appended meanwhile is not part of it.",
		[]string{"what", "compared", "SHA-256 before", "gone", "changed"}, rows))
}

// readAgain reads the objects that were read before and are not among the newest any more.
func (a *attack) readAgain(ctx context.Context, before snapshot, into map[string]string) {
	for id := range before.bodies {
		if _, ok := into[id]; ok {
			continue
		}
		key, version, _ := strings.Cut(id, " ")
		if body, err := a.Stores.Object(ctx, key, version); err == nil {
			into[id] = digest(body)
		}
	}
}

// whole is one digest over a map.
func whole(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(k + "\x00" + m[k] + "\n")
	}
	return digest([]byte(b.String()))
}

// stamps checks what was appended: it must be the tenant's, whatever it claimed.
func (a *attack) stamps(ctx context.Context) {
	from, to := a.vars.now.Add(-2*time.Hour), time.Now().Add(2*time.Hour)
	mine, err := a.Stores.Logs(ctx, a.Tenant, containing(a.run), from, to, logsAfter)
	if err != nil {
		a.unknown("stamps", "what was appended could not be read: "+err.Error())
	}
	for _, e := range mine {
		var claim struct{ Tenant, Cluster string }
		if json.Unmarshal([]byte(e.Line), &claim) == nil && (claim.Tenant == other || claim.Cluster == other) || e.Labels["tenant"] == other || e.Labels["cluster"] == other {
			a.breach("stamps", "a forged record kept the name that it claimed: "+sameAs(e.Line, 200))
		}
	}
	for _, name := range []string{other, "service", "fake", "anonymous"} {
		if name == a.Tenant {
			continue
		}
		theirs, err := a.Stores.Logs(ctx, name, containing(a.run), from, to, 10)
		if err != nil {
			a.unknown("stamps", "the records of tenant "+name+" could not be read: "+err.Error())
		}
		for _, e := range theirs {
			a.breach("stamps", "a forged record was stored as tenant "+name+"'s: "+sameAs(e.Line, 200))
		}
	}
	samples, err := a.Stores.Metrics(ctx, fmt.Sprintf("last_over_time({__name__=~\"catamaran_verify_.+\",run=%q}[3h] offset -2h)", a.run))
	if err != nil {
		a.unknown("stamps", "what was appended could not be read: "+err.Error())
	}
	for _, x := range samples {
		name := x.Labels["__name__"]
		switch {
		case name == controlMetric:
		case x.Labels["tenant_id"] != a.Tenant || x.Labels["cluster"] == other:
			a.breach("stamps", "a forged sample was stored under another name: "+labels(x.Labels))
		case name == "catamaran_verify_future" && x.Value != 2:
			a.breach("stamps", "a sample of the future was stored; it hides or blocks genuine ones until then")
		}
	}
	a.doc.Fact("appended by the attack, all as tenant "+a.Tenant, fmt.Sprintf("%d log records, %d series", len(mine), len(samples)))
	appended := map[Role]int{}
	for _, t := range a.attempts {
		if t.Outcome == Appended {
			appended[t.Role]++
		}
	}
	for _, role := range []Role{Logs, Metrics} {
		if appended[role] == 0 {
			a.unknown(string(role), "not even the tenant's own certificate could append there, so that everything was refused proves nothing")
		}
	}
	if appended[Logs] > 0 && len(mine) == 0 && err == nil {
		a.unknown("stamps", "the door acknowledged records that are not found in the service cluster")
	}
}
