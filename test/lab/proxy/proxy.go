// Package proxy stands between the product and a cloud's API. It counts what is asked and does on demand what networks and clouds do
// to their users at the worst moment: it delays, refuses, cuts off, answers by halves, forgets who somebody is, and kills the process
// that asks.
package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Rule is what is done to some requests. The first rule that fits a request decides; without one it is passed on.
type Rule struct {
	// Match is a regular expression for the request's description. Default: every request.
	Match string `json:"match,omitempty"`
	// First is the first of the matching requests, counted from 1 since the rules were set, and Times how many from there on.
	// Defaults: the first one, and all.
	First int `json:"first,omitempty"`
	Times int `json:"times,omitempty"`

	// Hold keeps the request until other rules are set, which then decide.
	Hold bool `json:"hold,omitempty"`
	// DelayMillis is how long the request waits before it goes on.
	DelayMillis int `json:"delayMillis,omitempty"`
	// Status is answered instead of passing the request on, with Retry-After where RetryAfterSeconds is not 0.
	Status            int `json:"status,omitempty"`
	RetryAfterSeconds int `json:"retryAfterSeconds,omitempty"`
	// Unsigned passes the request on without its session or token, as if that had expired.
	Unsigned bool `json:"unsigned,omitempty"`
	// Cut passes the request on and closes the connection without an answer; Half does so in the middle of the answer.
	Cut  bool `json:"cut,omitempty"`
	Half bool `json:"half,omitempty"`
	// Kill is a process that gets SIGKILL when the request was carried out and before it is answered.
	Kill int `json:"kill,omitempty"`
}

// Status is what the proxy has seen.
type Status struct {
	// Total and Counts are the requests since the process began, by description.
	Total  int            `json:"total"`
	Counts map[string]int `json:"counts"`
	Rules  []RuleStatus   `json:"rules"`
}

// RuleStatus is a rule and what came of it.
type RuleStatus struct {
	Rule
	// Matched counts the requests that the rule's Match fits since it was set, Done those that it was applied to.
	Matched int `json:"matched"`
	Done    int `json:"done"`
}

// credentials are the headers that tell who asks: OpenStack's token, vCenter's sessions.
var credentials = []string{"X-Auth-Token", "Cookie", "Vmware-Api-Session-Id"}

// Proxy passes requests on to one API. It is an http.Handler.
type Proxy struct {
	// Upstream is the API; a request keeps its path.
	Upstream *url.URL
	// Transport reaches it.
	Transport http.RoundTripper
	// Describe says in a few words what is asked; requests are matched and counted by it.
	Describe func(r *http.Request, body []byte) string

	mu      sync.Mutex
	total   int
	counts  map[string]int
	rules   []*active
	changed chan struct{} // closed when other rules are set
}

type active struct {
	RuleStatus
	match *regexp.Regexp
}

// New makes a proxy in front of an API.
func New(upstream *url.URL, describe func(*http.Request, []byte) string) *Proxy {
	return &Proxy{Upstream: upstream, Transport: &http.Transport{}, Describe: describe, counts: map[string]int{}, changed: make(chan struct{})}
}

// Set replaces the rules. Requests that are held are decided anew.
func (p *Proxy) Set(rules []Rule) error {
	fresh := make([]*active, len(rules))
	for i, r := range rules {
		m, err := regexp.Compile(r.Match)
		if err != nil {
			return fmt.Errorf("rule %d: match: %w", i+1, err)
		}
		fresh[i] = &active{RuleStatus: RuleStatus{Rule: r}, match: m}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = fresh
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// Status tells what was seen.
func (p *Proxy) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := Status{Total: p.total, Counts: map[string]int{}, Rules: []RuleStatus{}}
	for what, n := range p.counts {
		out.Counts[what] = n
	}
	for _, r := range p.rules {
		out.Rules = append(out.Rules, r.RuleStatus)
	}
	return out
}

// count notes a request.
func (p *Proxy) count(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	p.counts[what]++
}

// decide finds the rule for a request, and what tells of other rules.
func (p *Proxy) decide(what string) (Rule, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if !r.match.MatchString(what) {
			continue
		}
		r.Matched++
		if first := max(1, r.First); r.Matched < first || r.Times > 0 && r.Matched >= first+r.Times {
			continue
		}
		r.Done++
		return r.Rule, p.changed
	}
	return Rule{}, p.changed
}

// ServeHTTP passes a request on, or does to it what the rules say.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // who asked is gone
	}
	what := p.Describe(r, body)
	p.count(what)
	rule, changed := p.decide(what)
	for rule.Hold {
		select {
		case <-changed:
			rule, changed = p.decide(what)
		case <-r.Context().Done():
			return
		}
	}
	if rule.DelayMillis > 0 {
		select {
		case <-time.After(time.Duration(rule.DelayMillis) * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
	if rule.Status != 0 {
		if rule.RetryAfterSeconds > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(rule.RetryAfterSeconds))
		}
		http.Error(w, "the lab's proxy refuses this request", rule.Status)
		return
	}
	answer, content, err := p.forward(r, body, rule.Unsigned) //nolint:bodyclose // forward read and closed it
	if err != nil {
		http.Error(w, "the lab's proxy: "+err.Error(), http.StatusBadGateway)
		return
	}
	if rule.Kill > 0 {
		_ = syscall.Kill(rule.Kill, syscall.SIGKILL) // it may have ended by itself
		panic(http.ErrAbortHandler)
	}
	if rule.Cut {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	if len(content) > 0 { // an answer to HEAD tells a length that it does not have, and some have none at all
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	}
	w.WriteHeader(answer.StatusCode)
	if rule.Half {
		_, _ = w.Write(content[:len(content)/2]) // the connection ends anyway
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(content) // who asked may be gone
}

// forward asks the API and reads its whole answer.
func (p *Proxy) forward(r *http.Request, body []byte, unsigned bool) (*http.Response, []byte, error) {
	target := *r.URL
	target.Scheme, target.Host = p.Upstream.Scheme, p.Upstream.Host
	out, err := http.NewRequestWithContext(r.Context(), r.Method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	out.Header = r.Header.Clone()
	// the links in answers name the API as it was asked for
	out.Host = r.Host
	out.Header.Del("Accept-Encoding") // half of an answer is to be half of its text
	if unsigned {
		for _, name := range credentials {
			out.Header.Del(name)
		}
	}
	answer, err := p.Transport.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(answer.Body)
	if cerr := answer.Body.Close(); err == nil {
		err = cerr
	}
	return answer, content, err
}
