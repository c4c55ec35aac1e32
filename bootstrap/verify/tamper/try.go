package tamper

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
)

// sshParallel is how many logins are under way at once: sshd drops connections that are not logged in beyond ten.
const sshParallel = 4

// most bounds the credentials of one kind that are tried, in case a cluster holds thousands of tokens.
const most = 300

// new prepares a session.
func (a *attack) session(t Target, c Credential) *session {
	return &session{target: t, cred: c, vars: a.vars, user: a.Service.Nodes[0].User, dial: a.dial, timeout: a.DialTimeout}
}

// tryAll tries every credential at every endpoint that answers, every request.
func (a *attack) tryAll(ctx context.Context) {
	table := requests()
	reachable := a.probe(ctx, table)
	a.limit()
	type job struct {
		target Target
		cred   Credential
	}
	var jobs []job
	for _, t := range reachable {
		for _, c := range a.credentials {
			if wanted(t, c) {
				jobs = append(jobs, job{t, c})
			}
		}
	}
	var mu sync.Mutex
	logins := make(chan struct{}, sshParallel)
	done, told := 0, time.Now()
	a.pool(ctx, len(jobs), func(i int) {
		j := jobs[i]
		if j.target.Role == SSH {
			logins <- struct{}{}
			defer func() { <-logins }()
		}
		found := a.pair(ctx, a.session(j.target, j.cred), table[j.target.Role])
		mu.Lock()
		defer mu.Unlock()
		a.attempts = append(a.attempts, found...)
		if done++; time.Since(told) > 5*time.Second {
			told = time.Now()
			a.Progress(fmt.Sprintf("%d of %d pairs of credential and endpoint tried, %d attempts", done, len(jobs), len(a.attempts)))
		}
	})
}

// wanted says whether a credential makes sense at an endpoint.
func wanted(t Target, c Credential) bool {
	if t.Role == Other {
		return c.anonymous() || c.Own
	}
	return uses(t.Role, c.Kind) && (!c.Made || t.Role != SSH)
}

// probe connects to every endpoint; what does not answer stands as one attempt for all.
func (a *attack) probe(ctx context.Context, table map[Role][]Request) []Target {
	answers := make([]bool, len(a.targets))
	results := make([]result, len(a.targets))
	a.pool(ctx, len(a.targets), func(i int) {
		for range 2 { // a connection may be lost by chance
			conn, err := a.dial(ctx, a.targets[i].Address)
			if err == nil {
				_ = conn.Close() // that it answers was the question
				answers[i] = true
				return
			}
			results[i] = fromError(&dialError{err})
		}
	})
	var out []Target
	for i, t := range a.targets {
		if answers[i] {
			out = append(out, t)
			continue
		}
		pairs := 0
		for _, c := range a.credentials {
			if wanted(t, c) {
				pairs++
			}
		}
		a.attempts = append(a.attempts, Attempt{
			Credential: "any", Role: t.Role, Target: t.Name, Address: t.Address, Verb: "connect", Request: "connect",
			Outcome: Unreachable, Detail: results[i].detail, StandsFor: pairs * len(table[t.Role]),
		})
	}
	return out
}

// limit drops what is beyond the most of a kind.
func (a *attack) limit() {
	count := map[harvest.Kind]int{}
	a.credentials = slices.DeleteFunc(a.credentials, func(c Credential) bool {
		count[c.Kind]++
		return count[c.Kind] > most && !c.Own
	})
	for kind, n := range count {
		if n > most {
			a.unknown("workload", fmt.Sprintf("it holds %d credentials of the kind %s; %d of them were tried", n, kind, most))
		}
	}
}

// pair tries every request with one credential at one endpoint.
func (a *attack) pair(ctx context.Context, s *session, list []Request) []Attempt {
	defer s.close()
	var out []Attempt
	worked := false
	for i, r := range list {
		if ctx.Err() != nil {
			return out
		}
		t := Attempt{
			Credential: s.cred.name(), Found: s.cred.place(), Role: s.target.Role, Target: s.target.Name, Address: s.target.Address,
			Verb: r.Verb, Request: s.vars.fill(r.Name),
		}
		if r.Harm && worked {
			t.Outcome, t.Detail = Skipped, "something harmless has worked already"
			out = append(out, t)
			continue
		}
		res := s.try(ctx, r)
		if res.outcome == Unreachable || res.outcome == Unclear && res.detail == stalled {
			s.close()
			res = s.try(ctx, r) // it answered before: once more
		}
		t.Outcome, t.Detail = judge(s, r, res), sameAs(res.detail, 160)
		if t.Outcome == Succeeded && res.outcome != Succeeded {
			t.Detail = "allowed, and then: " + t.Detail
		}
		t.Breach = t.Outcome == Succeeded && !r.Info
		worked = worked || t.Breach
		if t.Outcome == TLSRefused && s.target.Role != Other {
			t.StandsFor = len(list) - i - 1 // there is nothing to send them on
			return append(out, t)
		}
		out = append(out, t)
	}
	return out
}

// judge turns an answer into what it means for this endpoint and credential.
func judge(s *session, r Request, res result) Outcome {
	switch {
	case res.outcome == Succeeded && s.cred.Own && (s.target.Role == Logs || s.target.Role == Metrics) && r.Expect != Refused:
		return Appended
	case (s.target.Role == KubeAPI || s.target.Role == Kubelet) && (res.outcome == NoSuchPath || res.outcome == Rejected):
		// Kubernetes looks whether somebody may before it looks whether the thing is there or the body fits
		return Succeeded
	}
	return res.outcome
}
