package host

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Parse reads what the facts script printed. received is the observer's time in the middle of the round trip.
func Parse(stdout []byte, received time.Time) (*Facts, error) {
	p := &parser{f: &Facts{
		Received: received, Sysctls: map[string]string{}, Modules: map[string]string{}, Units: map[string]Unit{},
		Files: map[string]File{}, Peers: map[string]string{}, Versions: map[string]string{}, Images: map[string]string{},
		Certificates: map[string]string{},
	}}
	sc := bufio.NewScanner(bytes.NewReader(stdout))
	sc.Buffer(nil, 64<<20) // it grows as lines need
	var name, arg string
	var body []string
	for sc.Scan() {
		l := sc.Text()
		switch {
		case name != "" && l == ">"+name:
			if err := p.block(name, arg, body); err != nil {
				return nil, fmt.Errorf("%s %s: %w", name, arg, err)
			}
			name, body = "", nil
		case name != "":
			body = append(body, l)
		case strings.HasPrefix(l, "<"):
			name, arg, _ = strings.Cut(l[1:], " ")
		default:
			k, v, ok := strings.Cut(l, "\t")
			if ok {
				if err := p.line(k, v); err != nil {
					return nil, fmt.Errorf("%s: %w", k, err)
				}
			}
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if !p.whole {
		return nil, errors.New("the facts script was cut off")
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	p.finish()
	return p.f, nil
}

// complete refuses facts without what every machine has: the shell there is not what the script was written for.
func (p *parser) complete() error {
	f := p.f
	for _, fact := range []struct {
		name  string
		there bool
	}{
		{"clock", !f.Clock.IsZero()}, {"hostname", f.Hostname != ""}, {"kernel", f.Kernel != ""}, {"architecture", f.Arch != ""},
		{"boot ID", f.BootID != ""}, {"process 1", f.Init != ""}, {"memory", f.MemoryMiB > 0},
	} {
		if !fact.there {
			return fmt.Errorf("the machine told nothing about its %s", fact.name)
		}
	}
	return nil
}

type parser struct {
	f          *Facts
	whole      bool
	programs   []string
	apiError   string
	api        bool // the API was asked
	unhealthy  map[string]bool
	healthSeen bool
}

func (p *parser) line(k, v string) error {
	f := p.f
	a, b, _ := strings.Cut(v, "\t")
	switch k {
	case "hostname":
		f.Hostname = v
	case "machineID":
		f.MachineID = v
	case "bootID":
		f.BootID = v
	case "kernel":
		f.Kernel = v
	case "init":
		f.Init = v
	case "firewall":
		f.Firewall = v
	case "arch":
		f.Arch = v
	case "cgroupV2":
		f.CgroupV2 = v == "yes"
	case "sysctl":
		f.Sysctls[a] = sysctlValue(b)
	case "module":
		f.Modules[a] = b
	case "feature":
		f.Features = append(f.Features, v)
	case "version":
		if b != "" {
			f.Versions[a] = versionIn(b)
		}
	case "missing":
		f.Missing = append(f.Missing, v)
	case "leftover":
		f.Leftovers = append(f.Leftovers, v)
	case "peer":
		f.Peers[a] = b
	case "end":
		p.whole = true
	case "clock":
		var err error
		f.Clock, err = moment(v)
		return err
	case "written":
		at, err := moment(b)
		if f.Written == nil {
			f.Written = map[string]time.Time{}
		}
		f.Written[a] = at
		return err
	case "apiServer":
		return p.apiServer(a, b)
	case "cpus":
		f.CPUs, _ = strconv.Atoi(v) // absent on exotic kernels: preflight then says 0
	case "memoryKiB":
		n, err := strconv.Atoi(v)
		f.MemoryMiB = n / 1024
		return err
	case "disk":
		var size, free int
		_, err := fmt.Sscan(v, &size, &free)
		f.DiskGiB, f.DiskFree = size>>20, free>>20
		return err
	}
	return nil
}

// moment reads seconds since 1970 with a fraction, as date prints them; busybox's prints none.
func moment(v string) (time.Time, error) {
	sec, nsec, _ := strings.Cut(v, ".")
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	n, _ := strconv.ParseInt(nsec, 10, 64)
	return time.Unix(s, n).UTC(), nil
}

// apiServer reads when an API server began: the machine's time, and at the same moment for how long it was up, in seconds;
// then when the process began since the machine's start, in the hundredths of a second that every Linux shows to programs.
// While one is replaced two may run: the younger one counts.
func (p *parser) apiServer(clock, rest string) error {
	now, err := moment(clock)
	if err != nil {
		return err
	}
	up, began, _ := strings.Cut(rest, "\t")
	uptime, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return err
	}
	ticks, err := strconv.ParseInt(began, 10, 64)
	if err != nil {
		return err
	}
	started := now.Add(-time.Duration(uptime * float64(time.Second))).Add(time.Duration(ticks) * 10 * time.Millisecond)
	if started.After(p.f.APIServerStarted) {
		p.f.APIServerStarted = started.Truncate(10 * time.Millisecond)
	}
	return nil
}

// sysctlValue is a value with its numbers one space apart: the kernel prints tabs where people write spaces.
func sysctlValue(s string) string { return strings.Join(strings.Fields(s), " ") }

// versionIn picks the first word that looks like a version: v1.37.2 of "Kubernetes v1.37.2".
func versionIn(s string) string {
	for _, w := range strings.Fields(s) {
		w = strings.TrimPrefix(w, "v")
		if w != "" && w[0] >= '0' && w[0] <= '9' && strings.Contains(w, ".") {
			return w
		}
	}
	return ""
}

func (p *parser) block(name, arg string, body []string) error {
	f := p.f
	text := strings.TrimSuffix(strings.Join(body, "\n"), "\n")
	switch name {
	case "osRelease":
		p.osRelease(body)
	case "swaps":
		f.SwapActive = len(strings.Split(strings.TrimSpace(text), "\n")) > 1
	case "addresses":
		p.addresses(body)
	case "links":
		p.links(body)
	case "listeners":
		p.listeners(body)
	case "units":
		p.units(body)
	case "running":
		for _, l := range body {
			if w := strings.Fields(l); len(w) > 0 {
				f.Running = append(f.Running, strings.TrimSuffix(w[0], ".service"))
			}
		}
	case "stat", "sums":
		p.files(name, body)
	case "content":
		raw, err := base64.StdEncoding.DecodeString(strings.Join(body, ""))
		if err != nil {
			return err
		}
		file := f.Files[arg]
		file.Content = string(raw)
		f.Files[arg] = file
	case "cert":
		f.Certificates[arg] = text
	case "conf":
		raw, err := base64.StdEncoding.DecodeString(strings.Join(body, ""))
		if err != nil {
			return err
		}
		if len(raw) > 0 {
			f.Certificates[arg] = string(raw)
		}
	case "blobs":
		f.Blobs = digests(body)
	case "contentStore":
		f.Content = digests(body)
	case "images":
		p.images(body)
	case "programs":
		p.programs = body
	case "programStat":
		p.programStat(body)
	default:
		return p.cluster(name, text)
	}
	return nil
}

func digests(lines []string) []string {
	var out []string
	for _, l := range lines {
		l = strings.TrimPrefix(strings.TrimSpace(l), "sha256:")
		if len(l) == 64 {
			out = append(out, "sha256:"+l)
		}
	}
	sort.Strings(out)
	return out
}

func (p *parser) osRelease(body []string) {
	for _, l := range body {
		k, v, _ := strings.Cut(l, "=")
		v = strings.Trim(v, `"'`)
		switch k {
		case "ID":
			p.f.OSID = v
		case "VERSION_ID":
			p.f.OSVersion = v
		case "PRETTY_NAME":
			p.f.OSName = v
		}
	}
}

func (p *parser) iface(name string) *Interface {
	name, _, _ = strings.Cut(strings.TrimSuffix(name, ":"), "@")
	for i := range p.f.Interfaces {
		if p.f.Interfaces[i].Name == name {
			return &p.f.Interfaces[i]
		}
	}
	p.f.Interfaces = append(p.f.Interfaces, Interface{Name: name})
	return &p.f.Interfaces[len(p.f.Interfaces)-1]
}

func (p *parser) addresses(body []string) {
	for _, l := range body {
		if w := strings.Fields(l); len(w) > 3 {
			i := p.iface(w[1])
			i.Addresses = append(i.Addresses, w[3])
		}
	}
}

func (p *parser) links(body []string) {
	for _, l := range body {
		w := strings.Fields(l)
		for k := range w {
			if w[k] == "mtu" && k+1 < len(w) {
				p.iface(w[1]).MTU, _ = strconv.Atoi(w[k+1]) // ip prints a number
			}
		}
	}
}

// listeners reads /proc/net/tcp: the second column is address:port in hex, the fourth 0A for LISTEN.
func (p *parser) listeners(body []string) {
	seen := map[int]bool{}
	for _, l := range body {
		w := strings.Fields(l)
		if len(w) < 4 || w[3] != "0A" {
			continue
		}
		_, hex, _ := strings.Cut(w[1], ":")
		port, err := strconv.ParseInt(hex, 16, 32)
		if err != nil || seen[int(port)] {
			continue
		}
		seen[int(port)] = true
		p.f.Listening = append(p.f.Listening, Listener{Port: int(port)})
	}
	sort.Slice(p.f.Listening, func(i, j int) bool { return p.f.Listening[i].Port < p.f.Listening[j].Port })
}

func (p *parser) units(body []string) {
	var id string
	var u Unit
	flush := func() {
		if id != "" {
			p.f.Units[id] = u
		}
		id, u = "", Unit{}
	}
	for _, l := range body {
		k, v, _ := strings.Cut(l, "=")
		switch k {
		case "":
			flush()
		case "Id":
			id = v
		case "ActiveState":
			u.Active = v
		case "UnitFileState":
			u.Enabled = v
		}
	}
	flush()
}

func (p *parser) files(kind string, body []string) {
	for _, l := range body {
		switch kind {
		case "stat":
			w := strings.SplitN(l, " ", 4)
			if len(w) == 4 {
				file := p.f.Files[w[3]]
				file.Mode, file.Owner = "0"+w[0], w[1]
				file.Size, _ = strconv.ParseInt(w[2], 10, 64) // stat prints a number
				p.f.Files[w[3]] = file
			}
		case "sums":
			if len(l) > 66 {
				file := p.f.Files[l[66:]]
				file.SHA256 = l[:64]
				p.f.Files[l[66:]] = file
			}
		}
	}
}

// programStat takes the record of installed programs for true where size and time are still those of the installation.
// A line of the record: path, sha256, size, modification time, name, version.
func (p *parser) programStat(body []string) {
	now := map[string]string{}
	for _, l := range body {
		w := strings.SplitN(l, " ", 3)
		if len(w) == 3 {
			now[w[2]] = w[0] + " " + w[1]
		}
	}
	for _, l := range p.programs {
		w := strings.Split(l, "\t")
		if len(w) == 6 && now[w[0]] == w[2]+" "+w[3] {
			p.f.Files[w[0]] = File{Mode: "0755", Owner: "root", SHA256: w[1]}
			p.f.Versions[w[4]] = w[5]
		}
	}
}

// images reads `ctr images ls`: REF TYPE DIGEST ... LABELS. One that is not pinned counts as missing: it is there only until
// the kubelet wants its room.
func (p *parser) images(body []string) {
	for _, l := range body {
		w := strings.Fields(l)
		if len(w) > 2 && strings.HasPrefix(w[2], "sha256:") && !strings.HasPrefix(w[0], "sha256:") && strings.Contains(w[len(w)-1], PinnedLabel) {
			p.f.Images[w[0]] = w[2]
		}
	}
}

func (p *parser) ensureCluster() *ClusterFacts {
	if p.f.Cluster == nil {
		p.f.Cluster = &ClusterFacts{}
	}
	return p.f.Cluster
}

func (p *parser) cluster(name, text string) error {
	switch name {
	case "apiError":
		p.api, p.apiError = true, strings.TrimSpace(text)
	case "nodes":
		return p.nodes(text)
	case "releases":
		return p.releases(text)
	case "secrets":
		return p.secrets(text)
	case "members":
		return p.members(text)
	case "health":
		return p.health(text)
	}
	return nil
}

func (p *parser) nodes(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
			Spec struct {
				Unschedulable bool
				Taints        []struct{ Key, Value, Effect string }
			}
			Status struct {
				Conditions []struct{ Type, Status string }
				Addresses  []struct{ Type, Address string }
				NodeInfo   struct{ KubeletVersion string }
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return err
	}
	c := p.ensureCluster()
	for _, i := range list.Items {
		n := NodeFacts{
			Name: i.Metadata.Name, Labels: i.Metadata.Labels, Unschedulable: i.Spec.Unschedulable,
			Version: strings.TrimPrefix(i.Status.NodeInfo.KubeletVersion, "v"),
		}
		_, n.ControlPlane = n.Labels["node-role.kubernetes.io/control-plane"]
		for _, t := range i.Spec.Taints {
			if !strings.HasPrefix(t.Key, "node.kubernetes.io/") {
				n.Taints = append(n.Taints, t.Key+"="+t.Value+":"+t.Effect)
			}
		}
		for _, cond := range i.Status.Conditions {
			if cond.Type == "Ready" {
				n.Ready = cond.Status == "True"
			}
		}
		for _, a := range i.Status.Addresses {
			if a.Type == "InternalIP" && n.Address == "" {
				n.Address = a.Address
			}
		}
		c.Nodes = append(c.Nodes, n)
	}
	return nil
}

func (p *parser) releases(text string) error {
	newest := map[string]ReleaseFacts{}
	for _, l := range strings.Split(text, "\n") {
		w := strings.Split(l, "\t")
		if len(w) < 6 {
			continue
		}
		rev, err := strconv.Atoi(w[2])
		if err != nil {
			return fmt.Errorf("release %s: revision %q", w[1], w[2])
		}
		k := w[0] + "/" + w[1]
		if have, ok := newest[k]; !ok || rev > have.Revision {
			newest[k] = ReleaseFacts{Namespace: w[0], Name: w[1], Revision: rev, Status: w[3], Version: w[4], Digest: w[5]}
		}
	}
	keys := make([]string, 0, len(newest))
	for k := range newest {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		p.ensureCluster().Releases = append(p.ensureCluster().Releases, newest[k])
	}
	return nil
}

func (p *parser) secrets(text string) error {
	for _, l := range strings.Split(text, "\n") {
		w := strings.Split(l, "\t")
		if len(w) < 4 {
			continue
		}
		f := SecretFacts{Namespace: w[0], Name: w[1], Digest: w[2]}
		if w[3] != "" {
			var err error
			if f.NotAfter, err = time.Parse(time.RFC3339, w[3]); err != nil {
				return fmt.Errorf("secret %s: %w", w[1], err)
			}
		}
		p.ensureCluster().Secrets = append(p.ensureCluster().Secrets, f)
	}
	return nil
}

func (p *parser) members(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var list struct {
		Members []struct {
			ID         json.Number `json:"ID"`
			Name       string      `json:"name"`
			ClientURLs []string    `json:"clientURLs"`
			IsLearner  bool        `json:"isLearner"`
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return err
	}
	for _, m := range list.Members {
		n, err := strconv.ParseUint(m.ID.String(), 10, 64)
		if err != nil {
			return err
		}
		e := EtcdMember{Name: m.Name, ID: strconv.FormatUint(n, 16), Learner: m.IsLearner}
		if len(m.ClientURLs) > 0 {
			e.URL = m.ClientURLs[0]
		}
		p.ensureCluster().Etcd = append(p.ensureCluster().Etcd, e)
	}
	return nil
}

func (p *parser) health(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var list []struct {
		Endpoint string
		Health   bool
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return err
	}
	p.healthSeen, p.unhealthy = true, map[string]bool{}
	for _, e := range list {
		if !e.Health {
			p.unhealthy[e.Endpoint] = true
		}
	}
	return nil
}

// finish joins what came in different blocks.
func (p *parser) finish() {
	if p.api && (p.apiError != "" || p.f.Cluster == nil || p.f.Cluster.Nodes == nil) {
		p.f.Cluster = nil
		p.f.ClusterError = p.apiError
		if p.f.ClusterError == "" {
			p.f.ClusterError = "the API server gave no nodes"
		}
		return
	}
	if p.f.Cluster != nil {
		for i, e := range p.f.Cluster.Etcd {
			p.f.Cluster.Etcd[i].Healthy = p.healthSeen && !p.unhealthy[e.URL]
		}
	}
}
