package vsphere

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	_ "github.com/vmware/govmomi/pbm/simulator"  // storage policies
	_ "github.com/vmware/govmomi/vapi/simulator" // tags

	"github.com/vmware/govmomi/simulator"

	"github.com/catamaran-k8s/catamaran/test/lab/guests"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
)

// processName is how a copy of this program knows that it is the vCenter; it shows in ps.
const processName = "catamaran-lab-vsphere"

// room is how many guests the lab takes.
const room = 10

// Reexec turns a copy of this program into the vCenter if it was started as such, and does not return then.
func Reexec() {
	if os.Args[0] != processName {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := serve(ctx, os.Args[1:])
	stop()
	if err != nil {
		log.Printf("%s: %v", strings.Join(os.Args, " "), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve is the process: simulator, proxy, power.
func serve(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("expected DIR NAME SUBNET")
	}
	dir, name := args[0], args[1]
	subnet, err := netip.ParsePrefix(args[2])
	if err != nil {
		return err
	}
	g, err := guests.Open(ctx, guests.Options{Dir: dir, Name: name, Subnet: subnet, Room: room, Log: func(line string) { log.Print(line) }})
	if err != nil {
		return err
	}
	defer g.Close()
	password, err := os.ReadFile(path(dir, "password"))
	if err != nil {
		return err
	}
	gateway := subnet.Masked().Addr().Next()
	v, err := newServer(ctx, gateway, string(password))
	if err != nil {
		return err
	}
	defer v.close()
	p := newPower(v.model, g, newLeases(subnet))
	control, err := v.control(path(dir, "control"), p)
	if err != nil {
		return err
	}
	defer control.Close() //nolint:errcheck // the process ends
	if err := os.WriteFile(path(dir, "ca.pem"), v.pem, 0o644); err != nil {
		return err
	}
	l, err := hosts.Open(dir)
	if err != nil {
		return err
	}
	s := v.state(dir)
	s.Inventory = l.Inventory()
	if err := writeInventory(ctx, l, s, subnet); err != nil {
		return err
	}
	if s.Process, err = process.Of(os.Getpid()); err != nil {
		return err
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	// the last thing: who finds it finds everything
	if err := os.WriteFile(path(dir, "state.json.new"), data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(path(dir, "state.json.new"), path(dir, "state.json")); err != nil {
		return err
	}
	return p.follow(ctx)
}

// server is the vCenter and the proxy in front of it.
type server struct {
	model           *simulator.Model
	api             *simulator.Server
	front           *http.Server
	proxy           *proxy.Proxy
	pem             []byte
	thumbprint, url string
}

// newServer starts both on an address of this machine.
func newServer(ctx context.Context, address netip.Addr, password string) (*server, error) {
	m, err := newModel(ctx)
	if err != nil {
		return nil, err
	}
	m.Service.RegisterEndpoints = true
	m.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(User, password)}
	v := &server{model: m, api: m.Service.NewServer()}
	if err := v.serveFront(ctx, address); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *server) serveFront(ctx context.Context, address netip.Addr) error {
	cert, text, thumbprint, err := newCertificate(address.AsSlice(), net.IPv4(127, 0, 0, 1))
	if err != nil {
		return err
	}
	v.pem, v.thumbprint = text, thumbprint
	v.proxy = proxy.New(&url.URL{Scheme: "http", Host: v.api.URL.Host}, describe)
	v.front = &http.Server{
		Handler: v.proxy, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(quiet{}, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address.String(), "0"))
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	v.url = "https://" + l.Addr().String() + "/sdk"
	go func() {
		if err := v.front.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("the proxy ended: %v", err)
		}
	}()
	return nil
}

// quiet drops what http.Server has to say of clients that are killed, which is what the proxy is for.
type quiet struct{}

func (quiet) Write(p []byte) (int, error) { return len(p), nil }

func (v *server) close() {
	if v.front != nil {
		_ = v.front.Close() // its connections end anyway
	}
	v.api.Close()
	v.model.Remove()
}

func (v *server) state(dir string) State {
	direct := *v.api.URL
	direct.User = nil
	return State{
		URL: v.url, Direct: direct.String(), User: User, PasswordFile: path(dir, "password"), CAFile: path(dir, "ca.pem"),
		Thumbprint: v.thumbprint, Control: path(dir, "control"),
		Datacenter: Datacenter, Cluster: Cluster, Datastore: Datastore, DatastoreCluster: DatastoreCluster, Network: Network, Template: Template,
	}
}

// control serves the proxy's control and the list of guests on a socket in a folder that only its owner can enter.
func (v *server) control(socket string, p *power) (*http.Server, error) {
	if err := os.RemoveAll(socket); err != nil { // of a process that was killed
		return nil, err
	}
	l, err := net.Listen("unix", socket) //nolint:noctx // it returns at once
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", v.proxy.Control())
	mux.HandleFunc("GET /guests", func(w http.ResponseWriter, _ *http.Request) {
		list, err := p.Guests()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(list) // who asked may be gone
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("the control socket ended: %v", err)
		}
	}()
	return s, nil
}

// operation finds what a SOAP request asks: the first element of the body.
var operation = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)

// identifier is a path segment that names one object.
var identifier = regexp.MustCompile(`[^/]*[0-9]+[^/]*`)

// describe names a request: the SOAP operation, or method and path of the automation API (tags).
func describe(r *http.Request, body []byte) string {
	if strings.HasPrefix(r.URL.Path, "/sdk") || strings.HasPrefix(r.URL.Path, "/pbm") {
		if m := operation.FindSubmatch(body); m != nil {
			return string(m[1])
		}
	}
	what := r.Method + " " + identifier.ReplaceAllString(r.URL.Path, "*")
	if action := r.URL.Query().Get("~action"); action != "" {
		what += " " + action
	}
	return what
}
