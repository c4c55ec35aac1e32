package evidence

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

// Status is how a piece of evidence, or a control, is judged.
type Status string

// Statuses. NotJudged is what this report has no evidence for, or what only people can decide.
const (
	Met       Status = "met"
	NotMet    Status = "not met"
	NotJudged Status = "not judged"
)

// Evidence is one piece of evidence with its judgement.
type Evidence struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Status Status `json:"status"`
	// Reason is one sentence; Missing lists what is not as it must be.
	Reason  string   `json:"reason"`
	Missing []string `json:"missing,omitempty"`
	// Where is the section that shows it.
	Where string `json:"where"`
}

// Limits of judgement.
const (
	// maxSkew is what REFERENCE asks of clocks, in milliseconds.
	maxSkew = 100
	// timeSources is how many servers a machine must hear.
	timeSources = 2
	// expiry is how long before its end a certificate must have been renewed.
	expiry = 30 * 24 * time.Hour
	// documentAge is how old a check may be to prove anything today.
	documentAge = 31 * 24 * time.Hour
	// scanAge is how old the last scan for vulnerabilities may be.
	scanAge = 8 * 24 * time.Hour
	// auditSilence is how long a control plane's audit log may be silent, in seconds.
	auditSilence = 900
)

// judgements are all pieces of evidence, in the order in which they are shown.
func judgements() []struct {
	id, title, where string
	judge            func(*Pack) Evidence
} {
	return []struct {
		id, title, where string
		judge            func(*Pack) Evidence
	}{
		{"audit", "API requests are audited", "nodes", judgeAudit},
		{"canary", "Events of the workload cluster are seen in the service cluster", "checks", document("canary")},
		{"tamper", "Delivered evidence can not be changed from the workload cluster", "checks", document("tamper")},
		{"chain", "The evidence chain is whole and locked", "checks", document("chain")},
		{"separation", "The clusters share no credential", "checks", document("separation")},
		{"time", "Clocks follow two sources and differ by less than 100 ms", "nodes", judgeTime},
		{"certificates", "No certificate has ended or ends within 30 days", "certificates", judgeCertificates},
		{"etcd", "Secrets are encrypted in etcd", "nodes", judgeEtcd},
		{"disks", "Disks are encrypted", "nodes", judgeDisks},
		{"policies", "Network policies cover every pod, and something enforces them", "network", judgePolicies},
		{"admins", "All rights are with the known groups only", "access", judgeAdmins},
		{"keys", "SSH keys are those that the inventory lists", "access", judgeKeys},
		{"hosts", "SSH host keys are pinned", "nodes", judgeHosts},
		{"versions", "Machines run the versions that the inventory says", "nodes", judgeVersions},
		{"images", "Every running image is known by its digest", "images", judgeImages},
		{"scans", "Images are scanned for vulnerabilities", "clusters", judgeScans},
		{"falco", "Falco runs on every machine of the workload cluster", "clusters", judgeFalco},
		{"constraints", "API policy is in force and not violated", "constraints", judgeConstraints},
		{"journal", "Changes are recorded in a hash chain", "journal", judgeJournal},
		{"inventory", "The inventory at hand is the one that was applied last", "journal", judgeInventory},
		{"backups", "Backups and restores", "scope", func(*Pack) Evidence {
			return Evidence{Status: NotJudged, Reason: "not covered by this version: backups are made and proven elsewhere"}
		}},
	}
}

// judgeAll fills in the evidence and the controls.
func (p *Pack) judgeAll() {
	p.Evidence = nil
	by := map[string]Evidence{}
	for _, j := range judgements() {
		e := j.judge(p)
		e.ID, e.Title, e.Where = j.id, j.title, j.where
		sort.Strings(e.Missing)
		p.Evidence = append(p.Evidence, e)
		by[e.ID] = e
	}
	p.Controls = judgeControls(by)
}

// verdict makes a piece of evidence of what is missing. looked counts what was looked at: if that is nothing, the verdict is not "met".
func verdict(looked int, what string, missing []string, unread []string) Evidence {
	switch {
	case len(missing) > 0:
		return Evidence{Status: NotMet, Reason: fmt.Sprintf("%d of %d %s fail", len(missing), looked, what), Missing: append(missing, unread...)}
	case len(unread) > 0:
		return Evidence{Status: NotJudged, Reason: fmt.Sprintf("%d %s looked at; what could not be told: %d", looked, what, len(unread)), Missing: unread}
	case looked == 0:
		return Evidence{Status: NotJudged, Reason: "there are no " + what + " to look at"}
	}
	return Evidence{Status: Met, Reason: fmt.Sprintf("%d of %d %s", looked, looked, what)}
}

// eachNode asks of every machine what is missing; "" is nothing, and unsure says that it can not be told.
func (p *Pack) eachNode(what string, relevant func(Node) bool, ask func(Cluster, Node) (missing, unsure string)) Evidence {
	var missing, unread []string
	looked := 0
	for _, c := range p.Clusters {
		for _, n := range c.Nodes {
			if !relevant(n) {
				continue
			}
			looked++
			if n.Error != "" {
				unread = append(unread, n.Name+": "+n.Error)
				continue
			}
			m, u := ask(c, n)
			if m != "" {
				missing = append(missing, n.Name+": "+m)
			} else if u != "" {
				unread = append(unread, n.Name+": "+u)
			}
		}
	}
	return verdict(looked, what, missing, unread)
}

func every(Node) bool          { return true }
func controlPlane(n Node) bool { return n.Role == "control-plane" }

func judgeAudit(p *Pack) Evidence {
	return p.eachNode("control planes", controlPlane, func(c Cluster, n Node) (string, string) {
		switch {
		case n.Flags["audit-log-path"] == "" || n.Flags["audit-policy-file"] == "":
			return "its API server writes no audit log", ""
		case n.AuditPolicy == "":
			return "the audit policy is not there", ""
		case n.AuditPolicy != c.AuditPolicy:
			return fmt.Sprintf("the audit policy is %.12s, expected %.12s", n.AuditPolicy, c.AuditPolicy), ""
		case n.AuditLogAge < 0:
			return "there is no audit log", ""
		case n.AuditLogAge > auditSilence:
			return fmt.Sprintf("nothing was audited for %.0f minutes", n.AuditLogAge/60), ""
		}
		return "", ""
	})
}

func judgeTime(p *Pack) Evidence {
	return p.eachNode("machines", every, func(_ Cluster, n Node) (string, string) {
		reached := 0
		for _, s := range n.TimeSources {
			if s.State == "reached" {
				reached++
			}
		}
		skew := max(n.Skew, -n.Skew)
		switch {
		case skew-n.SkewError > maxSkew:
			return fmt.Sprintf("its clock is %.0f ms off (measured to %.0f ms)", n.Skew, n.SkewError), ""
		case reached < timeSources || !n.Synced:
			return fmt.Sprintf("%d time sources reached, %d are needed (%s, synchronised: %t)", reached, timeSources, n.TimeService, n.Synced), ""
		case skew+n.SkewError > maxSkew:
			return "", fmt.Sprintf("its clock could not be measured well enough: %.0f ms, give or take %.0f", n.Skew, n.SkewError)
		}
		return "", ""
	})
}

func judgeCertificates(p *Pack) Evidence {
	var missing, unread []string
	looked := 0
	look := func(list []Certificate) {
		for _, c := range list {
			looked++
			switch left := c.NotAfter.Sub(p.Time); {
			case left <= 0:
				missing = append(missing, fmt.Sprintf("%s (%s) ended %s", c.Where, c.Subject, c.NotAfter.Format(time.DateOnly)))
			case left < expiry:
				missing = append(missing, fmt.Sprintf("%s (%s) ends %s, in %.0f days", c.Where, c.Subject, c.NotAfter.Format(time.DateOnly), left.Hours()/24))
			}
		}
	}
	look(p.Authorities)
	for _, c := range p.Clusters {
		look(c.Certificates)
		if !c.Read {
			unread = append(unread, c.Name+": not everything was read")
		}
		for _, n := range c.Nodes {
			if n.Error != "" {
				unread = append(unread, n.Name+": "+n.Error)
			}
		}
	}
	return verdict(looked, "certificates", missing, unread)
}

func judgeEtcd(p *Pack) Evidence {
	return p.eachNode("control planes", controlPlane, func(_ Cluster, n Node) (string, string) {
		switch n.Encryption {
		case "":
			return "Secrets are stored in plain", ""
		case "identity":
			return "new Secrets are stored in plain (the first provider is identity)", ""
		}
		return "", ""
	})
}

func judgeDisks(p *Pack) Evidence {
	return p.eachNode("machines", every, func(_ Cluster, n Node) (missing, unsure string) {
		var plain, dark []string
		for _, d := range n.Disks {
			switch d.Encrypted {
			case no:
				plain = append(plain, d.Mount+" on "+d.Device)
			case unknown:
				dark = append(dark, d.Mount+" on "+d.Device)
			}
		}
		switch {
		case len(plain) > 0:
			return "not encrypted by this machine: " + strings.Join(plain, ", "), ""
		case len(dark) > 0 || len(n.Disks) == 0:
			return "", "no disk of its own is seen below " + strings.Join(dark, ", ")
		case n.Swap == "on":
			return "", "swap is on, and may be on a disk that is not encrypted"
		}
		return "", ""
	})
}

func judgePolicies(p *Pack) Evidence {
	var missing, unread []string
	looked := 0
	for _, c := range p.Clusters {
		if !c.Read {
			unread = append(unread, c.Name+": not everything was read")
			continue
		}
		if c.Enforcer == "" {
			missing = append(missing, c.Name+": nothing is known to enforce network policies")
		}
		for _, n := range c.Namespaces {
			looked += n.Pods
			for _, pod := range n.OpenIn {
				missing = append(missing, fmt.Sprintf("%s %s/%s: reachable from everywhere", c.Name, n.Name, pod))
			}
			for _, pod := range n.OpenOut {
				missing = append(missing, fmt.Sprintf("%s %s/%s: reaches everything", c.Name, n.Name, pod))
			}
		}
	}
	e := verdict(looked, "pods", missing, unread)
	if e.Status == NotMet {
		e.Reason = fmt.Sprintf("%d things are open, of %d pods", len(missing), looked)
	}
	return e
}

func judgeAdmins(p *Pack) Evidence {
	var strange, unread []string
	looked := 0
	for _, c := range p.Clusters {
		if !c.Read {
			unread = append(unread, c.Name+": not everything was read")
		}
		for _, a := range c.Admins {
			looked++
			if a.Why == "" {
				strange = append(strange, fmt.Sprintf("%s: %s %s has %s by %s", c.Name, a.Kind, join(a.Namespace, a.Name), a.Role, a.Binding))
			}
		}
	}
	e := verdict(looked, "subjects with all rights", nil, append(strange, unread...))
	if len(strange) > 0 {
		e.Reason = fmt.Sprintf("%d of %d subjects with all rights are the site's own: somebody must say that they should be", len(strange), looked)
	}
	return e
}

func join(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// judgeKeys: the inventory has no list of people's keys to compare with.
func judgeKeys(p *Pack) Evidence {
	found := map[string]bool{}
	for _, c := range p.Clusters {
		for _, n := range c.Nodes {
			for _, k := range n.AuthorizedKeys {
				found[k.Fingerprint] = true
			}
		}
	}
	return Evidence{Status: NotJudged, Reason: fmt.Sprintf(
		"keys that can sign in: %d; the inventory has no list of people's keys to compare them with: somebody must", len(found))}
}

func judgeHosts(p *Pack) Evidence {
	return p.eachNode("machines", every, func(_ Cluster, n Node) (string, string) {
		if len(n.Pinned) == 0 {
			return "no key is pinned", ""
		}
		for _, k := range n.HostKeys {
			if slices.Contains(n.Pinned, k.Fingerprint) {
				return "", ""
			}
		}
		if len(n.HostKeys) == 0 {
			return "", "its keys are not where OpenSSH keeps them"
		}
		return "none of its keys is the pinned one", ""
	})
}

func judgeVersions(p *Pack) Evidence {
	return p.eachNode("machines", every, func(c Cluster, n Node) (string, string) {
		switch have := n.Versions["kubelet"]; have {
		case c.Version:
			return "", ""
		case "":
			return "it runs no kubelet", ""
		default:
			return fmt.Sprintf("it runs Kubernetes %s, the inventory says %s", have, c.Version), ""
		}
	})
}

func judgeImages(p *Pack) Evidence {
	var missing, unread []string
	looked := 0
	for _, c := range p.Clusters {
		if !c.Read {
			unread = append(unread, c.Name+": not everything was read")
		}
		for _, i := range c.Images {
			looked++
			if i.Digest == "" {
				missing = append(missing, c.Name+": "+i.Ref)
			}
		}
	}
	return verdict(looked, "images", missing, unread)
}

func judgeScans(p *Pack) Evidence {
	var missing, unread []string
	looked := 0
	for _, c := range p.Clusters {
		switch {
		case !c.Read:
			unread = append(unread, c.Name+": not everything was read")
		case len(c.Scans) == 0:
			missing = append(missing, c.Name+": there is no scan job")
		}
		for _, s := range c.Scans {
			looked++
			if p.Time.Sub(s.Last) > scanAge {
				missing = append(missing, fmt.Sprintf("%s: %s last succeeded %s", c.Name, s.Name, dateOr(s.Last, "never")))
			}
		}
	}
	e := verdict(looked, "scan jobs", missing, unread)
	if e.Status == NotMet {
		e.Reason = "images are not scanned, or not lately"
	}
	return e
}

func judgeFalco(p *Pack) Evidence {
	c := p.cluster("workload")
	switch {
	case c == nil:
		return Evidence{Status: NotJudged, Reason: "there is no workload cluster"}
	case !c.Read:
		return Evidence{Status: NotJudged, Reason: "the workload cluster could not be read"}
	case !c.Falco.Installed || c.Falco.Wanted == 0:
		return Evidence{Status: NotMet, Reason: "Falco is not installed"}
	case c.Falco.Wanted < len(c.Nodes):
		return Evidence{Status: NotMet, Reason: fmt.Sprintf("Falco is meant for %d of %d machines", c.Falco.Wanted, len(c.Nodes))}
	case c.Falco.Ready < c.Falco.Wanted:
		return Evidence{Status: NotMet, Reason: fmt.Sprintf("Falco is ready on %d of %d machines", c.Falco.Ready, c.Falco.Wanted)}
	}
	return Evidence{Status: Met, Reason: fmt.Sprintf("ready on %d of %d machines", c.Falco.Ready, c.Falco.Wanted)}
}

func judgeConstraints(p *Pack) Evidence {
	var missing, unread []string
	looked, violations := 0, 0
	for _, c := range p.Clusters {
		switch {
		case !c.Read:
			unread = append(unread, c.Name+": not everything was read")
		case !c.Gatekeeper.Installed:
			missing = append(missing, c.Name+": Gatekeeper is not installed")
		case len(c.Gatekeeper.Constraints) == 0:
			missing = append(missing, c.Name+": there are no constraints")
		}
		for _, k := range c.Gatekeeper.Constraints {
			looked++
			violations += k.Violations
			switch {
			case k.Violations > 0:
				missing = append(missing, fmt.Sprintf("%s: %s %s: %d violations", c.Name, k.Kind, k.Name, k.Violations))
			case k.Audited.IsZero():
				unread = append(unread, fmt.Sprintf("%s: %s %s was never audited", c.Name, k.Kind, k.Name))
			}
		}
	}
	e := verdict(looked, "constraints", missing, unread)
	if e.Status == NotMet {
		e.Reason = fmt.Sprintf("%d violations of %d constraints", violations, looked)
		if violations == 0 {
			e.Reason = "API policy is not in force everywhere"
		}
	}
	return e
}

func judgeJournal(p *Pack) Evidence {
	switch {
	case p.Journal.Error != "":
		return Evidence{Status: NotMet, Reason: p.Journal.Error}
	case p.Journal.Entries == 0:
		return Evidence{Status: NotJudged, Reason: "there is no journal yet"}
	}
	return Evidence{Status: Met, Reason: fmt.Sprintf("%d entries of %d runs, no line changed, missing or added; whether its newest lines are there only a copy elsewhere can tell",
		p.Journal.Entries, p.Journal.Runs)}
}

func judgeInventory(p *Pack) Evidence {
	switch last := p.Journal.Last; {
	case p.Journal.Error != "" || p.Journal.Runs == 0:
		return Evidence{Status: NotJudged, Reason: "the journal does not tell what was applied"}
	case last.Inventory != p.Inventory:
		return Evidence{Status: NotMet, Reason: fmt.Sprintf("applied last was %.12s (%s, by %s); this is %.12s", last.Inventory, last.Time.Format(time.DateOnly), last.Operator, p.Inventory)}
	case last.Failed > 0:
		return Evidence{Status: NotMet, Reason: fmt.Sprintf("%d steps of the last apply failed", last.Failed)}
	default:
		return Evidence{Status: Met, Reason: fmt.Sprintf("%.12s, by %s on %s", last.Inventory, last.Operator, last.Time.Format(time.DateOnly))}
	}
}

// document judges by the latest document of one kind.
func document(kind string) func(*Pack) Evidence {
	return func(p *Pack) Evidence {
		i := slices.IndexFunc(p.Documents, func(d Checked) bool { return d.Kind == kind })
		if i < 0 {
			return Evidence{Status: NotJudged, Reason: fmt.Sprintf("never checked: run `catamaran verify %s`", kind)}
		}
		d := p.Documents[i]
		age := p.Time.Sub(d.Ended)
		when := fmt.Sprintf("checked %s (%s)", d.Ended.Format(time.DateOnly), d.File)
		switch {
		case d.Error != "":
			return Evidence{Status: NotMet, Reason: d.File + ": " + d.Error}
		case d.Verdict == verify.Fail:
			return Evidence{Status: NotMet, Reason: "failed, " + when}
		case age > documentAge:
			return Evidence{Status: NotJudged, Reason: fmt.Sprintf("%s, %.0f days ago: too long", when, age.Hours()/24)}
		case d.Verdict == verify.Pass:
			return Evidence{Status: Met, Reason: "passed, " + when}
		}
		return Evidence{Status: NotJudged, Reason: "could not be judged, " + when}
	}
}

func (p *Pack) cluster(name string) *Cluster {
	for i := range p.Clusters {
		if p.Clusters[i].Name == name {
			return &p.Clusters[i]
		}
	}
	return nil
}

func dateOr(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.UTC().Format(time.DateOnly)
}
