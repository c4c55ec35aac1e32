package plan

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// RunOptions say how a plan is carried out.
type RunOptions struct {
	// Parallel bounds how many steps run at once; 0: no bound but one step a node.
	Parallel int
	// Attempts bounds how often a step is tried when its error is passing; 0: 3.
	Attempts int
	// Pause is the wait before the second attempt, doubled each time; 0: 1 s.
	Pause time.Duration
	// Events receive what happens, one at a time.
	Events func(Event)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Outcome is how one step ended.
type Outcome struct {
	Step  Step
	Type  EventType // End, Failed or Skipped
	Began time.Time
	Took  time.Duration
	Err   error
}

// Summary is how a run ended, in the order of the plan.
type Summary struct {
	Outcomes []Outcome
	Took     time.Duration
}

// Empty says that no step was begun.
func (s Summary) Empty() bool { return len(s.Outcomes) == 0 }

// Count is how many steps ended in a way.
func (s Summary) Count(t EventType) int {
	n := 0
	for _, o := range s.Outcomes {
		if o.Type == t {
			n++
		}
	}
	return n
}

// Failed says that at least one step did not succeed.
func (s Summary) Failed() bool { return s.Count(End) != len(s.Outcomes) }

// Run carries a plan out as a graph: whatever is ready runs at once, but one step at a time on a node and under a lock.
// A failure skips what needs it and nothing else. When ctx ends no step begins any more, and running ones are cancelled.
// The error says only that the graph is wrong or ctx ended; failures of steps are in the summary.
func Run(ctx context.Context, p Plan, o RunOptions) (Summary, error) {
	if err := check(p.Steps); err != nil {
		return Summary{}, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	r := &runner{o: o, steps: p.Steps, state: make([]state, len(p.Steps)), out: make([]Outcome, len(p.Steps)),
		index: map[string]int{}, busy: map[string]bool{}, ended: make(chan int)}
	for i, s := range p.Steps {
		r.index[s.ID] = i
	}
	begin := o.Now()
	r.loop(ctx)
	return Summary{Outcomes: r.out, Took: o.Now().Sub(begin)}, ctx.Err()
}

type state int

const (
	waiting state = iota
	running
	ended
)

type runner struct {
	o      RunOptions
	steps  []Step
	index  map[string]int
	state  []state
	out    []Outcome
	busy   map[string]bool // nodes and locks
	active int
	ended  chan int
	events sync.Mutex
}

func (r *runner) emit(e Event) {
	r.events.Lock()
	defer r.events.Unlock()
	if r.o.Events != nil {
		e.Time = r.o.Now()
		r.o.Events(e)
	}
}

func (r *runner) loop(ctx context.Context) {
	for {
		for r.schedule(ctx) {
		}
		if r.active == 0 {
			return
		}
		i := <-r.ended
		r.active--
		r.state[i] = ended
		for _, k := range r.keys(i) {
			delete(r.busy, k)
		}
	}
}

// keys are what a step holds alone while it runs.
func (r *runner) keys(i int) []string {
	var k []string
	if r.steps[i].Node != "" {
		k = append(k, "node "+r.steps[i].Node)
	}
	if r.steps[i].Lock != "" {
		k = append(k, "lock "+r.steps[i].Lock)
	}
	return k
}

// schedule begins or skips what can be; it reports whether something was skipped, which may let more be skipped.
func (r *runner) schedule(ctx context.Context) (again bool) {
	for i := range r.steps {
		if r.state[i] != waiting {
			continue
		}
		ready, broken := r.needs(i)
		switch {
		case broken != "" || ctx.Err() != nil && ready:
			if broken == "" {
				broken = "interrupted"
			}
			r.state[i] = ended
			r.out[i] = Outcome{Step: r.steps[i], Type: Skipped, Err: errors.New(broken)}
			r.emit(Event{Type: Skipped, Step: r.steps[i].ID, Node: r.steps[i].Node, Title: r.steps[i].Title, Error: broken})
			again = true
		case ready && r.free(i) && (r.o.Parallel == 0 || r.active < r.o.Parallel):
			r.start(ctx, i)
		}
	}
	return again
}

func (r *runner) needs(i int) (ready bool, broken string) {
	for _, n := range r.steps[i].Needs {
		j := r.index[n]
		if r.state[j] != ended {
			return false, ""
		}
		if r.out[j].Type != End {
			return false, "it needs " + n
		}
	}
	return true, ""
}

func (r *runner) free(i int) bool {
	for _, k := range r.keys(i) {
		if r.busy[k] {
			return false
		}
	}
	return true
}

func (r *runner) start(ctx context.Context, i int) {
	for _, k := range r.keys(i) {
		r.busy[k] = true
	}
	r.state[i] = running
	r.active++
	go func() {
		s := r.steps[i]
		begin := r.o.Now()
		r.emit(Event{Type: Begin, Step: s.ID, Node: s.Node, Title: s.Title})
		err := r.do(ctx, s)
		took := r.o.Now().Sub(begin)
		r.out[i] = Outcome{Step: s, Type: End, Began: begin, Took: took, Err: err}
		e := Event{Type: End, Step: s.ID, Node: s.Node, Title: s.Title, Took: took}
		if err != nil {
			r.out[i].Type, e.Type, e.Error = Failed, Failed, err.Error()
		}
		r.emit(e)
		r.ended <- i
	}()
}

// do tries a step until it succeeds, its error is not passing, or the attempts are used up.
func (r *runner) do(ctx context.Context, s Step) error {
	log := func(line string) { r.emit(Event{Type: Output, Step: s.ID, Node: s.Node, Line: line}) }
	pause := r.o.Pause
	for attempt := 1; ; attempt++ {
		err := once(ctx, s, log)
		if err == nil || ctx.Err() != nil || !passing(err) || attempt == r.o.Attempts {
			return err
		}
		log(fmt.Sprintf("attempt %d of %d failed, trying again in %s: %v", attempt, r.o.Attempts, pause, err))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// passing says that trying again may help.
func passing(err error) bool { return remote.IsPassing(err) || helm.IsPassing(err) }

// once turns a panic of one step into its failure: the others go on.
func once(ctx context.Context, s Step, log func(string)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("step %s panicked, which is a bug: %v", s.ID, p)
		}
	}()
	if s.Action == nil {
		return fmt.Errorf("step %s has no action, which is a bug", s.ID)
	}
	return s.Action.Do(ctx, log)
}

// check finds graphs that can not be carried out; each is a bug of the planner.
func check(steps []Step) error {
	byID := map[string]Step{}
	for _, s := range steps {
		if _, twice := byID[s.ID]; twice {
			return fmt.Errorf("step %s is planned twice", s.ID)
		}
		byID[s.ID] = s
	}
	const (
		visiting = 1
		done     = 2
	)
	mark := map[string]int{}
	var visit func(id string, path []string) error
	visit = func(id string, path []string) error {
		switch mark[id] {
		case done:
			return nil
		case visiting:
			return fmt.Errorf("steps need each other: %s", strings.Join(append(path, id), " -> "))
		}
		s, ok := byID[id]
		if !ok {
			return fmt.Errorf("step %s needs %s, which is not planned", path[len(path)-1], id)
		}
		mark[id] = visiting
		for _, n := range s.Needs {
			if err := visit(n, append(path, id)); err != nil {
				return err
			}
		}
		mark[id] = done
		return nil
	}
	ids := make([]string, 0, len(byID))
	for id := range byID {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		if err := visit(id, nil); err != nil {
			return err
		}
	}
	return nil
}
