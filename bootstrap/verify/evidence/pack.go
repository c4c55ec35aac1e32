// Package evidence gathers what an auditor asks of a site into one document: what runs where, who may do what, what is
// encrypted, watched and proven, and which controls that meets. It reads the machines (one script each), both API servers
// and the site folder, all at once, and changes nothing; each API server
// is asked once for something that it has to audit. What it could not read it says; what was not read is not met.
package evidence

import (
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

// Kind is the document's kind.
const Kind = "report"

// Pack is everything that was found.
type Pack struct {
	Site      string    `json:"site"`
	Time      time.Time `json:"time"`
	Operator  string    `json:"operator"`
	Version   string    `json:"version"`   // catamaran's
	Inventory string    `json:"inventory"` // sha256 of the file

	Clusters    []Cluster     `json:"clusters"`
	Authorities []Certificate `json:"authorities"` // of the vault
	Documents   []Checked     `json:"documents"`   // the latest of each kind
	Journal     Journal       `json:"journal"`
	// Gaps are what could not be read.
	Gaps []Gap `json:"gaps"`

	Evidence []Evidence `json:"evidence"`
	Controls []Judged   `json:"controls"`
}

// Gap is something that could not be read, and why.
type Gap struct {
	Subject string `json:"subject"`
	Reason  string `json:"reason"`
}

// Cluster is one cluster.
type Cluster struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint"`
	Version  string `json:"version"` // wanted by the inventory
	// Read says that the API server answered all questions.
	Read         bool          `json:"read"`
	Nodes        []Node        `json:"nodes"`
	Images       []Image       `json:"images"`
	Certificates []Certificate `json:"certificates"` // by their end
	Namespaces   []Namespace   `json:"namespaces"`
	// Enforcer is what enforces network policies; empty: nothing that is known to.
	Enforcer   string     `json:"enforcer"`
	Admins     []Admin    `json:"admins"`
	Falco      Workload   `json:"falco"`
	Gatekeeper Gatekeeper `json:"gatekeeper"`
	Scans      []Scan     `json:"scans"`
	// AuditPolicy is the SHA-256 of the audit policy that control planes must have.
	AuditPolicy string `json:"auditPolicySHA256"`
}

// Node is one machine.
type Node struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	Address string `json:"address"`
	// Error says why the machine could not be read; the rest is empty then.
	Error        string            `json:"error,omitempty"`
	ControlPlane bool              `json:"controlPlane"`
	OS           string            `json:"os"`
	Kernel       string            `json:"kernel"`
	Arch         string            `json:"arch"`
	Versions     map[string]string `json:"versions"` // kubelet, containerd, runc

	HostKeys []HostKey `json:"hostKeys"`
	// Pinned are the fingerprints that the inventory or known_hosts demand.
	Pinned []string `json:"pinned"`

	AuthorizedKeys []AuthorizedKey   `json:"authorizedKeys"`
	SSHD           map[string]string `json:"sshd"`

	Flags       map[string]string `json:"apiServerFlags,omitempty"`
	AuditPolicy string            `json:"auditPolicySHA256,omitempty"`
	// AuditLogAge is how long ago the audit log was written to, in seconds; -1: there is none.
	AuditLogAge float64 `json:"auditLogAgeSeconds"`
	// Encryption is the provider that writes Secrets to etcd.
	Encryption string `json:"encryption,omitempty"`

	Disks       []Disk       `json:"disks"`
	Swap        string       `json:"swap"`
	TimeService string       `json:"timeService"`
	TimeSources []TimeSource `json:"timeSources"`
	Synced      bool         `json:"synchronised"`
	// Skew is the machine's clock minus ours, in milliseconds; SkewError bounds what the measurement can be wrong by.
	Skew      float64 `json:"skewMs"`
	SkewError float64 `json:"skewErrorMs"`
	// Unsure is what the machine could not tell for certain.
	Unsure []string `json:"unsure,omitempty"`

	certificates []Certificate // go to the cluster's
}

// HostKey is a public key of a machine's sshd.
type HostKey struct {
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
}

// AuthorizedKey lets somebody sign in.
type AuthorizedKey struct {
	User        string `json:"user"`
	File        string `json:"file"`
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	Comment     string `json:"comment"`
	Options     string `json:"options,omitempty"`
}

// Disk is a file system that holds something to protect.
type Disk struct {
	Mount  string `json:"mount"`
	Device string `json:"device"`
	// Encrypted is yes, no or unknown (no block device of this machine, such as in a container or on a network file system).
	Encrypted string `json:"encrypted"`
}

// TimeSource is a server that tells the time.
type TimeSource struct {
	Name  string `json:"name"`
	State string `json:"state"` // reached or silent
}

// Image is a container image that runs.
type Image struct {
	Ref    string `json:"ref"`
	Digest string `json:"digest"`
	Pods   int    `json:"pods"`
}

// Certificate is one certificate.
type Certificate struct {
	Where    string    `json:"where"`
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"notAfter"`
}

// Namespace is how far network policies go in a namespace.
type Namespace struct {
	Name        string `json:"name"`
	PodSecurity string `json:"podSecurity"`
	Policies    int    `json:"policies"`
	Pods        int    `json:"pods"`
	// Host are pods on the machine's own network, to which no policy applies.
	Host int `json:"hostNetworkPods"`
	// Open are pods that can be reached from everywhere, or reach everything: no policy of that direction selects them.
	OpenIn  []string `json:"openIngress"`
	OpenOut []string `json:"openEgress"`
}

// Admin is a subject with all rights.
type Admin struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Binding   string `json:"binding"`
	Role      string `json:"role"`
	// Why the subject is one, where it is one of Kubernetes itself or of kubeadm.
	Why string `json:"why,omitempty"`
}

// Workload is how many pods of a DaemonSet are ready.
type Workload struct {
	Installed bool `json:"installed"`
	Ready     int  `json:"ready"`
	Wanted    int  `json:"wanted"`
}

// Gatekeeper is API policy.
type Gatekeeper struct {
	Installed   bool         `json:"installed"`
	Constraints []Constraint `json:"constraints"`
}

// Constraint is one of Gatekeeper's.
type Constraint struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Action     string `json:"action"`
	Violations int    `json:"violations"`
	// Audited is when it was looked at last; zero: never.
	Audited time.Time `json:"audited"`
}

// Scan is a job that looks for vulnerabilities.
type Scan struct {
	Name string    `json:"name"`
	Last time.Time `json:"lastSuccess"` // zero: never
}

// Checked is a document of an earlier check.
type Checked struct {
	Kind    string         `json:"kind"`
	File    string         `json:"file"`
	Ended   time.Time      `json:"ended"`
	Verdict verify.Verdict `json:"verdict"`
	Facts   []verify.Fact  `json:"facts"`
	// Error says why it does not count: changed, signed by another key ...
	Error string `json:"error,omitempty"`
}

// Journal is the record of all runs of plan and apply.
type Journal struct {
	Entries int `json:"entries"`
	Runs    int `json:"runs"`
	// Last is the last run.
	Last Run `json:"last"`
	// Error says what is wrong with its hash chain, or that there is none.
	Error string `json:"error,omitempty"`
}

// Run is one run of apply.
type Run struct {
	Time      time.Time `json:"time"`
	Operator  string    `json:"operator"`
	Machine   string    `json:"machine"`
	Version   string    `json:"version"`
	Inventory string    `json:"inventory"`
	Failed    int       `json:"failedSteps"`
}
