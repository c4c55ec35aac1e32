package evidence

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

// Sources are what a report is made from.
type Sources struct {
	Clusters []ClusterSource
	// Authorities are the vault's certificates by name; no keys.
	Authorities map[string]string
	// SiteDir holds the journal and the documents of earlier checks.
	SiteDir string
	// Trusted is the site's public key, which signed those; nil: each is checked against the key that it names.
	Trusted ed25519.PublicKey
}

// ClusterSource is where one cluster is read.
type ClusterSource struct {
	Name, Endpoint, Version string
	// AuditPolicy is the policy that its control planes must have.
	AuditPolicy string
	// API connects to the API server; an error of it is a gap.
	API   func(context.Context) (API, error)
	Nodes []NodeSource
}

// NodeSource is one machine.
type NodeSource struct {
	Name, Role, Address string
	// Pins are what the inventory or known_hosts say of its host key: fingerprints or public keys.
	Pins []string
	// Machine is nil where there is no connection, and Err says why.
	Machine Machine
	Err     error
}

// Gather reads everything at once and judges it.
func Gather(ctx context.Context, subject verify.Subject, s Sources) (Pack, error) {
	p := Pack{
		Site: subject.Site, Time: time.Now().UTC().Truncate(time.Second), Operator: subject.Operator, Version: subject.Version, Inventory: subject.Inventory,
		Clusters: make([]Cluster, len(s.Clusters)), Gaps: []Gap{},
	}
	var mu sync.Mutex
	gap := func(g ...Gap) {
		mu.Lock()
		defer mu.Unlock()
		p.Gaps = append(p.Gaps, g...)
	}
	var wg sync.WaitGroup
	for i, source := range s.Clusters {
		c := &p.Clusters[i]
		*c = Cluster{
			Name: source.Name, Endpoint: source.Endpoint, Version: source.Version, AuditPolicy: sum(source.AuditPolicy),
			Nodes: make([]Node, len(source.Nodes)),
		}
		wg.Go(func() {
			api, err := source.API(ctx)
			if err != nil {
				gap(Gap{Subject: c.Name + ": API", Reason: err.Error()})
				return
			}
			gap(readCluster(ctx, api, c)...)
		})
		for j, n := range source.Nodes {
			node := &c.Nodes[j]
			*node = Node{Name: n.Name, Role: n.Role, Address: n.Address, AuditLogAge: -1}
			wg.Go(func() {
				if n.Machine == nil {
					node.Error = fmt.Sprint(n.Err)
				} else {
					readNode(ctx, n.Machine, node)
				}
				for _, pin := range n.Pins {
					node.Pinned = append(node.Pinned, pinned(pin))
				}
				if node.Error != "" {
					gap(Gap{Subject: n.Name, Reason: node.Error})
				}
			})
		}
	}
	for name, text := range s.Authorities {
		p.Authorities = append(p.Authorities, certificates("vault: "+name, []byte(text))...)
	}
	p.Journal = readJournal(filepath.Join(s.SiteDir, plan.JournalName))
	p.Documents = readDocuments(s.SiteDir, s.Trusted)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return p, err
	}
	p.arrange()
	p.judgeAll()
	return p, nil
}

// arrange brings what came from many places into order.
func (p *Pack) arrange() {
	byEnd(p.Authorities)
	for i := range p.Clusters {
		c := &p.Clusters[i]
		for _, n := range c.Nodes {
			c.Certificates = append(c.Certificates, n.certificates...)
		}
		byEnd(c.Certificates)
	}
	sort.Slice(p.Gaps, func(i, j int) bool { return p.Gaps[i].Subject < p.Gaps[j].Subject })
}

func byEnd(list []Certificate) {
	sort.SliceStable(list, func(i, j int) bool {
		if !list[i].NotAfter.Equal(list[j].NotAfter) {
			return list[i].NotAfter.Before(list[j].NotAfter)
		}
		return list[i].Where < list[j].Where
	})
}

// readJournal reads and checks the journal.
func readJournal(path string) Journal {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Journal{}
	}
	if err != nil {
		return Journal{Error: err.Error()}
	}
	defer f.Close() //nolint:errcheck // only read
	entries, err := plan.ReadJournal(f)
	j := Journal{Entries: len(entries)}
	if err != nil {
		j.Error = fmt.Sprintf("%s: %v: it was changed by something else than catamaran", filepath.Base(path), err)
	}
	for _, e := range entries {
		if e.Type == plan.EntryRun {
			j.Runs++
			j.Last = Run{Time: e.Time, Operator: e.Operator, Machine: e.Machine, Version: e.Version, Inventory: e.Inventory}
		} else if e.Error != "" && e.Type != plan.EntryRepair {
			j.Last.Failed++
		}
	}
	return j
}

// readDocuments finds the latest document of each kind but reports. A file that is not as it was signed is listed with its
// error: an older one must not take its place.
func readDocuments(siteDir string, trusted ed25519.PublicKey) []Checked {
	names, err := filepath.Glob(filepath.Join(verify.Folder(siteDir), "*.json"))
	if err != nil {
		return nil // only a bad pattern
	}
	latest := map[string]string{}
	for _, path := range names {
		kind, _, ok := cutLast(strings.TrimSuffix(filepath.Base(path), ".json"), "-")
		if ok && kind != Kind && path > latest[kind] {
			latest[kind] = path
		}
	}
	out := make([]Checked, 0, len(latest))
	for kind, path := range latest {
		c := Checked{Kind: kind, File: filepath.Base(path)}
		d, err := verify.Read(path, trusted)
		if err != nil {
			c.Error = strings.TrimPrefix(err.Error(), path+": ")
		} else {
			c.Ended, c.Verdict, c.Facts = d.Ended, d.Verdict, d.Facts
			if d.Kind != kind {
				c.Error = fmt.Sprintf("it is a document of kind %s under another's name", d.Kind)
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Checked) int { return strings.Compare(a.Kind, b.Kind) })
	return out
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Document puts the pack into a document. Its verdict is about the evidence: fail when something is not met.
func (p *Pack) Document(subject verify.Subject, started time.Time) verify.Document {
	d := verify.New(Kind, "Evidence pack", "What was seen of this site, and which controls it meets.", subject)
	d.Started, d.Ended = started, time.Now()
	counts := map[Status]int{}
	for _, c := range p.Controls {
		counts[c.Status]++
	}
	d.Fact("controls", fmt.Sprintf("%d met, %d not met, %d not judged", counts[Met], counts[NotMet], counts[NotJudged]))
	severity := map[Status]verify.Severity{NotMet: verify.Breach, NotJudged: verify.Unknown}
	for _, e := range p.Evidence {
		if s, ok := severity[e.Status]; ok {
			d.Add(s, e.Title, e.Reason)
		}
	}
	for _, g := range p.Gaps {
		d.Add(verify.Unknown, g.Subject, "could not be read: "+g.Reason)
	}
	t := verify.Table{Title: "Controls", Columns: []string{"framework", "control", "title", "evidence", "status", "note"}}
	for _, c := range p.Controls {
		t.Rows = append(t.Rows, []string{c.Framework, c.ID, c.Title, strings.Join(c.Evidence, ", "), string(c.Status), c.Note})
	}
	d.Tables = append(d.Tables, t)
	d.Data, _ = json.Marshal(p) //nolint:errchkjson // plain data
	d.Judge()
	return d
}

// Write signs the pack and writes it as JSON and as HTML into dir, both 0600. It returns the path of the JSON file.
func (p *Pack) Write(dir string, d verify.Document, s verify.Signer) (string, error) {
	data, err := verify.Encode(d, s)
	if err != nil {
		return "", err
	}
	page, err := p.html(s.Public())
	if err != nil {
		return "", err
	}
	if page, err = verify.SealHTML(page, s); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	stem := filepath.Join(dir, Kind+"-"+d.Ended.UTC().Format("20060102T150405Z"))
	if err := pki.WriteFile(stem+".html", page, 0o600); err != nil {
		return "", err
	}
	return stem + ".json", pki.WriteFile(stem+".json", data, 0o600)
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}
