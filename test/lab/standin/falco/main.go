// A STAND-IN for Falco, which needs eBPF programs and a compiler that are not to be had here. It reads the falco.yaml and the
// rules that the product's chart renders, the very files, and evaluates their conditions; but it sees no system calls: only
// what fanotify and inotify tell about /etc/kubernetes, and which processes end. It prints alerts as Falco does, one line of
// JSON each. Rules that the image of Falco ships are not there, so it has none of them. It proves the product's rules, their
// delivery and what is made of them; it proves nothing about Falco itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

func main() {
	file := flag.String("c", "/etc/falco/falco.yaml", "the configuration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *file, os.Getenv("HOST_ROOT")); err != nil {
		log.Fatal(err)
	}
}

// configuration is the part of falco.yaml that the stand-in follows.
type configuration struct {
	RulesFiles []string `yaml:"rules_files"`
	Priority   string   `yaml:"priority"`
	JSON       bool     `yaml:"json_output"`
	Webserver  struct {
		Enabled bool   `yaml:"enabled"`
		Port    int    `yaml:"listen_port"`
		Health  string `yaml:"k8s_healthz_endpoint"`
	} `yaml:"webserver"`
}

func load(file string) (configuration, []rule, error) {
	var c configuration
	text, err := os.ReadFile(file)
	if err != nil {
		return c, nil, err
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return c, nil, fmt.Errorf("%s: %w", file, err)
	}
	if !c.JSON {
		return c, nil, fmt.Errorf("%s: the stand-in writes JSON only (json_output)", file)
	}
	var rules []rule
	for _, f := range c.RulesFiles {
		found, err := loadRules(f)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(f, "/etc/falco/") {
			log.Printf("%s comes with Falco's image: the stand-in does without", f)
			continue
		}
		if err != nil {
			return c, nil, err
		}
		rules = append(rules, found...)
	}
	if len(rules) == 0 {
		return c, nil, errors.New("there is no rule")
	}
	return c, rules, nil
}

func run(ctx context.Context, file, prefix string) error {
	c, rules, err := load(file)
	if err != nil {
		return err
	}
	out := &printer{rules: rules, hostname: os.Getenv("FALCO_HOSTNAME"), write: func(line []byte) error {
		_, err := os.Stdout.Write(line)
		return err
	}}
	w, err := newWatcher(prefix, out.event)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	work.Go(func() { cancel(w.watch(ctx, []string{"/etc/kubernetes"})) })
	work.Go(func() { cancel(ends(ctx, 300*time.Millisecond, out.endMatters, out.event)) })
	if c.Webserver.Enabled {
		mux := http.NewServeMux()
		mux.HandleFunc("GET "+c.Webserver.Health, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status": "ok"}`) }) //nolint:errcheck // the client is gone
		mux.HandleFunc("GET /metrics", out.metrics)
		server := &http.Server{Addr: fmt.Sprintf(":%d", c.Webserver.Port), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { _ = server.Close() })
		work.Go(func() {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	work.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// watch adds folders as they appear: those of a control plane come with kubeadm.
func (w *watcher) watch(ctx context.Context, folders []string) error {
	failed := make(chan error, 1)
	go func() { failed <- w.run(ctx) }()
	for _, f := range folders {
		if err := w.add(f); err != nil {
			return err
		}
	}
	return <-failed
}

// printer compares events with the rules, and prints.
type printer struct {
	rules    []rule
	hostname string
	write    func([]byte) error

	mu      sync.Mutex
	matched map[string]int
}

func (p *printer) event(e map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if !r.matches(e) {
			continue
		}
		line, err := r.alert(e, p.hostname, time.Now())
		if err == nil {
			err = p.write(append(line, '\n'))
		}
		if err != nil {
			log.Print(err)
			continue
		}
		if p.matched == nil {
			p.matched = map[string]int{}
		}
		p.matched[r.Rule]++
		return // as Falco does by default: the first rule that matches
	}
}

// endMatters says whether a rule would match when the process ended.
func (p *printer) endMatters(e map[string]string) bool {
	was := e["evt.type"]
	e["evt.type"] = "procexit"
	defer func() { e["evt.type"] = was }()
	for _, r := range p.rules {
		if r.matches(e) {
			return true
		}
	}
	return false
}

// metrics serves the counter that Falco has by this name: of rules that matched, with the priority as a number.
func (p *printer) metrics(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(w, "# TYPE falcosecurity_falco_rules_matches_total counter") //nolint:errcheck // the client is gone
	priorities := []string{"EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFORMATIONAL", "DEBUG"}
	for _, r := range p.rules {
		if n := p.matched[r.Rule]; n > 0 {
			fmt.Fprintf(w, "falcosecurity_falco_rules_matches_total{rule_name=%q,priority=\"%d\"} %d\n", r.Rule, slices.Index(priorities, strings.ToUpper(r.Priority)), n) //nolint:errcheck // likewise
		}
	}
}
