package openstack

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/test/lab/guests"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// supervisorName is how a copy of this program knows that it keeps a cloud; it shows in ps.
const supervisorName = "catamaran-lab-openstack"

// Reexec turns a copy of this program into the supervisor that Up started it for, and does not return then. Call it first in main,
// after hosts.Reexec.
func Reexec() {
	if os.Args[0] != supervisorName {
		return
	}
	if err := runSupervisor(os.Args[1:]); err != nil {
		log.Printf("%s: %v", strings.Join(os.Args, " "), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// state is what a supervisor tells the world, in state.json.
type state struct {
	Options    Options    `json:"options"`
	Supervisor process.ID `json:"supervisor"`
	Processes  []Process  `json:"processes"`
	Began      time.Time  `json:"began"`
	// Ready is when everything answered.
	Ready time.Time `json:"ready,omitzero"`
	// Failed says why it did not come up.
	Failed string          `json:"failed,omitempty"`
	Guests []guests.Status `json:"guests,omitempty"`
}

type supervisor struct {
	o        Options
	settings settings
	identity identity
	database *service
	keystone *service
	guests   *guests.Guests

	mu       sync.Mutex // guards what follows
	state    state
	services []*service
}

func runSupervisor(args []string) error {
	syscall.Umask(0o022)
	if len(args) != 1 {
		return errors.New("expected DIR")
	}
	var o Options
	if missing, err := readJSON(filepath.Join(args[0], "options.json"), &o); err != nil || missing {
		return errors.Join(err, errors.New("there are no options.json"))
	}
	began := time.Now()
	o.Log = func(line string) { fmt.Printf("%6.1fs  %s\n", time.Since(began).Seconds(), line) }
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	s := &supervisor{o: o, state: state{Options: o, Began: began}}
	s.settings.o = o
	var err error
	if s.state.Supervisor, err = process.Of(os.Getpid()); err != nil {
		return err
	}
	err = s.run(ctx)
	s.stop()
	if err != nil && ctx.Err() == nil {
		s.mu.Lock()
		s.state.Failed = err.Error()
		s.mu.Unlock()
		return errors.Join(err, s.save())
	}
	return s.save()
}

func (s *supervisor) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return writeJSON(s.o.path("state.json"), s.state)
}

// run brings everything up and keeps it until ctx ends.
func (s *supervisor) run(ctx context.Context) error {
	if err := s.save(); err != nil {
		return err
	}
	for _, dir := range []string{"run", "log", "tmp", "etc", "var/home", "var/servers", "var/consoles", "var/locks", "var/mnesia", "var/glance/images",
		"var/nova", "var/neutron", "var/cinder/conversion", "var/cinder/coordination"} {
		if err := os.MkdirAll(s.o.path(dir), 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.settings.Extracted, err = extracted(); err != nil {
		return err
	}
	all, actx := errgroup.WithContext(ctx)
	all.Go(func() error { return s.openGuests(actx) })
	all.Go(func() error { return s.ensureDatabase(actx) })
	if err := all.Wait(); err != nil {
		return err
	}
	s.o.Log("the database is up")
	if err := s.startDaemons(ctx); err != nil {
		return err
	}
	c, err := s.clients(ctx)
	if err != nil {
		return err
	}
	if err := until(ctx, "the daemons", nil, s.ready(c)); err != nil {
		return err
	}
	s.o.Log("all daemons report that they are up")
	if err := s.seed(ctx, c); err != nil {
		return err
	}
	if err := s.writeClouds(); err != nil {
		return err
	}
	gate, err := s.openGate()
	if err != nil {
		return err
	}
	defer gate.close()
	s.mu.Lock()
	s.state.Ready = time.Now()
	s.mu.Unlock()
	if err := s.save(); err != nil {
		return err
	}
	s.o.Log("OpenStack is up: " + s.o.AuthURL())
	return s.follow(ctx)
}

func (s *supervisor) openGuests(ctx context.Context) (err error) {
	s.guests, err = guests.Open(ctx, guests.Options{Dir: s.o.Hosts(), Name: s.o.Name, Subnet: s.o.Subnet, Log: s.o.Log})
	return err
}

// startKeystone starts keystone and waits for it.
func (s *supervisor) startKeystone(ctx context.Context) (err error) {
	s.keystone, err = s.web("keystone", "identity", "/usr/bin/keystone-wsgi-public",
		"OS_KEYSTONE_CONFIG_DIR="+s.o.path("etc/keystone"), "OS_KEYSTONE_CONFIG_FILES=keystone.conf")
	if err != nil {
		return err
	}
	return until(ctx, "keystone", s.keystone, answers(s.o.local("identity")+"/v3"))
}

// web starts a program that a web server runs.
func (s *supervisor) web(name, port, program string, env ...string) (*service, error) {
	return s.start(name, env, "/usr/bin/uwsgi", "--plugins", "python3", "--http-socket", fmt.Sprintf("127.0.0.1:%d", s.o.port(port)),
		"--master", "--lazy-apps", "--enable-threads", "--processes", "2", "--threads", "1", "--buffer-size", "65535",
		"--add-header", "Connection: close", "--die-on-term", "--no-orphans", "--thunder-lock", "--disable-logging",
		"--wsgi-file", program, "--procname-prefix-spaced", name)
}

// startDaemons starts everything but the database, all at once, and waits until the APIs answer.
func (s *supervisor) startDaemons(ctx context.Context) error {
	if err := s.startMessages(ctx); err != nil {
		return err
	}
	etc := func(name string) string { return s.o.path("etc", name) }
	placement, err := s.web("placement", "placement", "/usr/bin/placement-api", "OS_PLACEMENT_CONFIG_DIR="+etc("placement"))
	if err != nil {
		return err
	}
	if err := s.startKeystone(ctx); err != nil {
		return err
	}
	s.o.Log("keystone is up")
	type daemon struct {
		name string
		conf []string
		own  bool // it has --log-file
	}
	list := []daemon{
		{"nova-api", []string{"nova.conf"}, true}, {"neutron-server", []string{"neutron.conf", "ml2.conf"}, false},
		{"nova-conductor", []string{"nova.conf"}, true}, {"nova-scheduler", []string{"nova.conf"}, true},
		{"glance-api", []string{"glance.conf"}, false}, {"cinder-api", []string{"cinder.conf"}, true},
		{"cinder-scheduler", []string{"cinder.conf"}, true}, {"cinder-volume", []string{"cinder.conf"}, true},
	}
	started := map[string]*service{"placement": placement}
	launch := func(name, program string, own bool, conf ...string) error {
		args := []string{program}
		for _, c := range conf {
			args = append(args, "--config-file", etc(c))
		}
		if own {
			args = append(args, "--log-file", s.o.path("log", name+".log"))
		}
		d, err := s.start(name, nil, python, args...)
		started[name] = d
		return err
	}
	for _, d := range list {
		if err := launch(d.name, s.daemon(d.name), d.own, d.conf...); err != nil {
			return err
		}
	}
	if err := until(ctx, "placement", placement, answers(s.o.local("placement")+"/")); err != nil {
		return err
	}
	for _, host := range s.o.computeHosts() {
		if err := launch("nova-compute-"+host, s.o.path("standin", "nova_compute.py"), true, "nova.conf", host+".conf"); err != nil {
			return err
		}
	}
	if err := launch("lab-agents", s.o.path("standin", "lab_agents.py"), true, "neutron.conf", "ml2.conf"); err != nil {
		return err
	}
	for _, x := range []struct{ name, port, path string }{
		{"glance-api", "image", "/healthcheck"}, {"neutron-server", "network", "/"}, {"nova-api", "compute", "/"}, {"cinder-api", "volume", "/"},
	} {
		if err := until(ctx, x.name, started[x.name], answers(s.o.local(x.port)+x.path)); err != nil {
			return err
		}
		s.o.Log(x.name + " is up")
	}
	return nil
}

// startMessages starts the message broker, and the daemon by which its kind find each other, which would otherwise be started by the
// broker and stay when that ends.
func (s *supervisor) startMessages(ctx context.Context) error {
	found, err := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errors.New("rabbitmq-server is not installed")
	}
	epmd := fmt.Sprint(s.o.port("epmd"))
	if _, err := s.start("epmd", nil, "/usr/bin/epmd", "-address", "127.0.0.1", "-port", epmd); err != nil {
		return err
	}
	d, err := s.start("rabbitmq", []string{
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=" + epmd, "RABBITMQ_NODENAME=" + s.o.Name + "@localhost",
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", s.o.port("distribution")), "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE=" + s.o.path("etc", "rabbit"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + s.o.path("etc", "rabbit-plugins"),
		"RABBITMQ_MNESIA_BASE=" + s.o.path("var", "mnesia"), "RABBITMQ_LOG_BASE=" + s.o.path("log"), "RABBITMQ_PID_FILE=" + s.o.path("run", "rabbitmq.pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
		"PATH=" + filepath.Dir(found[0]) + ":/usr/sbin:/usr/bin:/sbin:/bin",
	}, found[0])
	if err != nil {
		return err
	}
	return until(ctx, "the message broker", d, s.listens("messages"))
}

// stop ends everything in order: first who works, then the broker, then the database.
func (s *supervisor) stop() {
	if s.guests != nil {
		s.guests.Close()
	}
	s.mu.Lock()
	all := slices.Clone(s.services)
	s.mu.Unlock()
	const orderly = 20 * time.Second
	last := []string{"rabbitmq", "epmd", "mariadb"}
	var rest []*service
	for _, d := range all {
		if !slices.Contains(last, d.name) {
			rest = append(rest, d)
		}
	}
	stop(orderly, rest...)
	for _, name := range last {
		for _, d := range all {
			if d.name == name {
				stop(orderly, d)
			}
		}
	}
	// children that outlived their parents
	if err := end(s.o.Dir, s.state.Processes, orderly); err != nil {
		s.o.Log(err.Error())
	}
	s.mu.Lock()
	s.state.Processes = nil
	s.mu.Unlock()
	s.o.Log("OpenStack is down")
}
