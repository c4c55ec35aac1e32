// Package tamper attacks a live site: with every credential that the workload cluster holds, from one of its nodes, against
// everything of the service cluster that can be reached from there. What was delivered before must be the same afterwards.
//
// The connections go out of the node itself (SSH forwards them), with routes to the service cluster's pods and Services added
// meanwhile, as root there could. Nothing is installed on it. What would do damage if it worked is only sent where nothing
// harmless worked with the same credential: one success is the breach, a second would be vandalism.
package tamper

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
)

// Kind is the document's kind.
const Kind = "tamper"

// Machine is what is needed of a node. remote.Host is one.
type Machine interface {
	Name() string
	Run(ctx context.Context, c remote.Command) (remote.Result, error)
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// Node is a node of a cluster.
type Node struct {
	Machine
	Address string // the inventory's
	// User is the login user, which is tried in attempts on SSH.
	User string
}

// Cluster is one side.
type Cluster struct {
	Client kubernetes.Interface
	Nodes  []Node // control planes first
	// PodCIDR and ServiceCIDR are of its network.
	PodCIDR, ServiceCIDR string
}

// Options are an attack's.
type Options struct {
	Subject           verify.Subject
	Service, Workload Cluster
	// Tenant is the name that the workload cluster's records are stamped with.
	Tenant string
	// Logs and Metrics are the node ports of the doors, as host:port.
	Logs, Metrics string
	Stores        Stores
	// Bucket is the evidence's bucket, Region its S3's ("": us-east-1). S3 is host:port of an S3 of the site's own; "": it is part
	// of the service cluster.
	Bucket, Region, S3 string
	// Control are credentials of the service cluster itself: they show that an attempt could have worked.
	Control []harvest.Credential
	// NoMarkers uses what was delivered already.
	NoMarkers bool
	// OpenPath puts the control's credentials among the harvested ones: the verdict must then be Fail.
	OpenPath bool
	// Parallel is how many connections are open at once (0: 32). DialTimeout bounds one (0: 3s), Wait the arrival of markers (0: 2m).
	Parallel    int
	DialTimeout time.Duration
	Wait        time.Duration
	// Progress is told what goes on, in whole sentences without secrets; nil: nobody is.
	Progress func(string)
}

// attack is one run.
type attack struct {
	Options
	doc  verify.Document
	run  string // unique, in every marker and forgery
	from Node
	vars vars

	targets     []Target
	credentials []Credential
	attempts    []Attempt
	told        map[subject]int
}

// Run carries the attack out. An error means that it could not begin; what could not be judged is in the document.
func Run(ctx context.Context, o Options) (verify.Document, error) {
	if len(o.Workload.Nodes) == 0 || len(o.Service.Nodes) == 0 {
		return verify.Document{}, errors.New("tamper: both clusters must have a node")
	}
	setDefault(&o.Parallel, 32)
	setDefault(&o.DialTimeout, 3*time.Second)
	setDefault(&o.Wait, 2*time.Minute)
	setDefault(&o.Bucket, "evidence")
	setDefault(&o.Region, "us-east-1")
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		return verify.Document{}, err
	}
	a := &attack{
		Options: o, run: "catv" + hex.EncodeToString(id[:]), from: o.Workload.Nodes[0], told: map[subject]int{},
		doc: verify.New(Kind, "Tamper proof", "With everything that the workload cluster holds, nothing that was delivered to the service cluster can be read, changed or deleted.", o.Subject),
	}
	a.vars = newVars(o.Tenant, a.run, o.Bucket, time.Now())
	a.vars.region = o.Region
	err := a.all(ctx)
	a.report()
	a.doc.Judge()
	return a.doc, err
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// all is the order of things.
func (a *attack) all(ctx context.Context) error {
	a.Progress("harvesting every credential of the workload cluster")
	if err := a.harvest(ctx); err != nil {
		return err
	}
	a.Progress("looking for what of the service cluster there is to reach")
	if err := a.discover(ctx); err != nil {
		return err
	}
	closeRoutes, err := a.openRoutes(ctx)
	if err != nil {
		a.unknown(a.from.Name(), "routes to the service cluster's pods could not be added, so their addresses were tried without: "+err.Error())
	}
	defer closeRoutes()
	a.scan(ctx)

	if !a.NoMarkers {
		a.Progress("delivering markers and waiting for them in the service cluster")
		a.deliver(ctx)
	}
	before := a.settle(ctx)
	a.vars.use(before)

	a.Progress(fmt.Sprintf("attacking %d endpoints with %d credentials from %s", len(a.targets), len(a.credentials), a.from.Name()))
	a.tryAll(ctx)
	a.Progress("checking that the same attempts work with credentials of the service cluster")
	a.control(ctx)
	a.Progress("reading what was delivered again")
	a.stamps(ctx)
	a.compare(ctx, before)
	return ctx.Err()
}

// tell is how many findings of one severity are told of one subject; the others are counted.
const tell = 20

// subject is what findings are counted by.
type subject struct {
	severity verify.Severity
	name     string
}

func (a *attack) add(s verify.Severity, name, message string) {
	key := subject{s, name}
	if a.told[key]++; a.told[key] <= tell {
		a.doc.Add(s, name, message)
	}
}

func (a *attack) breach(subject, message string)  { a.add(verify.Breach, subject, message) }
func (a *attack) unknown(subject, message string) { a.add(verify.Unknown, subject, message) }
func (a *attack) note(subject, message string)    { a.add(verify.Note, subject, message) }

// harvest looks through the workload cluster, and makes what its keys can make.
func (a *attack) harvest(ctx context.Context) error {
	salt, err := harvest.NewSalt()
	if err != nil {
		return err
	}
	c := harvest.NewCollector(salt)
	k := harvest.Cluster{Name: "workload", Client: a.Workload.Client}
	for _, n := range a.Workload.Nodes {
		k.Nodes = append(k.Nodes, n)
	}
	for _, err := range harvest.Everything(ctx, k, c) {
		a.unknown("workload", err.Error())
	}
	found := c.Credentials()
	a.doc.Fact("looked through in the workload cluster", fmt.Sprintf("%d files, objects and processes of %d nodes", c.Looked(), len(k.Nodes)))
	if len(found) == 0 {
		a.unknown("workload", "no credential was found: does the login reach root on its nodes, and is the API up?")
	}
	if a.OpenPath {
		a.note("open path", "credentials of the service cluster were put among the harvested ones on purpose: this run must fail")
		found = append(found, a.Control...)
	}
	a.credentials, err = arsenal(found, a.Tenant)
	return err
}

// openRoutes lets the node reach pods and Services of the service cluster, until the returned function is called.
func (a *attack) openRoutes(ctx context.Context) (func(), error) {
	list := routes(a.targets, a.Service, a.Workload)
	if len(list) == 0 {
		return func() {}, nil
	}
	in, feed := io.Pipe()
	ready := &waiter{word: "ready\n", done: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := a.from.Run(ctx, remote.Command{Script: routeScript, Root: true, Stdin: in, Stdout: ready})
		_ = in.CloseWithError(io.ErrClosedPipe) // whoever still writes
		ended <- err
	}()
	undo := func() {
		_ = feed.Close() // the script reads its end and takes the routes away
		if err := <-ended; err != nil && ctx.Err() == nil {
			a.note(a.from.Name(), "check with `ip route` that no route to the service cluster was left: "+err.Error())
		}
	}
	if _, err := io.WriteString(feed, strings.Join(list, "\n")+"\n.\n"); err != nil {
		_ = feed.Close()
		if e := <-ended; e != nil {
			err = e
		}
		return func() {}, err
	}
	select {
	case <-ready.done:
		return undo, nil
	case err := <-ended:
		_ = feed.Close()
		return func() {}, fmt.Errorf("the script that adds them ended: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
}

// waiter closes done when a word was written.
type waiter struct {
	word string
	seen strings.Builder
	done chan struct{}
	over bool
}

func (w *waiter) Write(b []byte) (int, error) {
	w.seen.Write(b)
	if !w.over && strings.Contains(w.seen.String(), w.word) {
		w.over = true
		close(w.done)
	}
	return len(b), nil
}
