package providertest_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider/providertest"
)

func harness(f fault) providertest.Harness {
	return providertest.Harness{Creates: true, Patience: 5 * time.Second, World: func(testing.TB) providertest.World { return &cloud{fault: f} }}
}

func TestSoundProviderPasses(t *testing.T) {
	t.Parallel()
	providertest.Run(t, harness(sound))
}

// recorder is a test double: a testing.TB that keeps a failure to itself.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed bool
	text   string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.text += fmt.Sprintf(format, args...)
}

func (r *recorder) FailNow() {
	r.mu.Lock()
	r.failed = true
	r.mu.Unlock()
	runtime.Goexit()
}

// fails runs one case and tells whether it failed; a panic is a failure too.
func fails(t *testing.T, c providertest.Case, h providertest.Harness) bool {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v", p)
			}
		}()
		c.Check(r, h)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// catches says which cases notice a fault.
var catches = map[fault][]string{
	planCreates:       {"plan changes nothing"},
	planForgets:       {"plan tells what ensure does"},
	planNil:           {"plan is empty after ensure"},
	planNeverEnds:     {"plan is empty after ensure", "plan tells what ensure does"},
	planWithoutReason: {"plan changes nothing"},
	planNoMachines:    {"plan returns the machines that exist"},
	makesAbsent:       {"ensure makes nothing for absent nodes"},
	adoptedUnsaid:     {"ensure returns all machines in inventory order"},
	ensureRetires:     {"surplus is planned and left alone"},
	surplusUnseen:     {"surplus is planned and left alone"},
	surplusNoRole:     {"surplus is planned and left alone"},
	surplusAdopted:    {"adopted machines are never surplus"},
	retiresAll:        {"retire deletes exactly the named machines"},
	retiresShared:     {"retire deletes exactly the named machines"},
	retireKeepsDisk:   {"retire deletes exactly the named machines", "retire deletes the machine of an absent node"},
	retireLosesDisk:   {"retire cut off anywhere goes on"},
	retiresSurplus:    {"retire deletes the machine of an absent node"},
	retiresAdopted:    {"retire leaves adopted machines"},
	retireTwiceFails:  {"retire again is no error"},
	retireSilent:      {"retire deletes exactly the named machines"},
	planDestroys:      {"plan of destroy changes nothing"},
	planDestroyNil:    {"plan of destroy changes nothing"},
	planDestroyShort:  {"plan of destroy tells what destroy does"},
	destroysListed:    {"destroy deletes surplus too"},
	destroyNeedsNodes: {"destroy needs no valid node"},
	makesAlways:       {"ensure again changes nothing", "ensure adopts what is there"},
	makesAllAnew:      {"ensure makes only what is missing"},
	marksLater:        {"ensure cut off anywhere goes on"},
	skipsAbsent:       {"ensure returns all machines in inventory order"},
	wrongOrder:        {"ensure returns all machines in inventory order"},
	noAddress:         {"ensure returns all machines in inventory order"},
	oneAddress:        {"ensure returns all machines in inventory order"},
	neverAdopts:       {"ensure adopts what is there"},
	reportsLate:       {"report ends with the call"},
	reportsLocked:     {"report holds no lock"},
	reportsNil:        {"report may be nil"},
	reportsAgain:      {"ensure again changes nothing"},
	remembers:         {"destroy deletes all that ensure created", "destroy cut off anywhere goes on"},
	destroysAdopted:   {"destroy leaves adopted machines"},
	destroysFirst:     {"destroy deletes all that ensure created"},
	destroySilent:     {"destroy deletes all that ensure created"},
	destroyTwiceFails: {"destroy again is no error"},
	ignoresContext:    {"a cancelled context stops everything"},
	contextPermanent:  {"a cancelled context stops everything", "ensure cut off anywhere goes on", "destroy cut off anywhere goes on"},
	losesCause:        {"a cancelled context stops everything", "ensure cut off anywhere goes on"},
	deniedPassing:     {"permanent errors say so"},
	noClusterPassing:  {"permanent errors say so"},
	sharedState:       {"several calls at once"},
}

// TestBrokenProvidersAreCaught: each way of breaking the contract is caught by the case that is about it, and each case
// catches something.
func TestBrokenProvidersAreCaught(t *testing.T) {
	t.Parallel()
	cases := map[string]providertest.Case{}
	for _, c := range providertest.Cases() {
		cases[c.Name] = c
	}
	caught := map[string]bool{}
	for f, names := range catches {
		for _, name := range names {
			require.Contains(t, cases, name)
			caught[name] = true
			t.Run(string(f)+"/"+name, func(t *testing.T) {
				t.Parallel()
				assert.True(t, fails(t, cases[name], harness(f)), "the case did not notice")
				assert.False(t, fails(t, cases[name], harness(sound)), "the case fails without the fault")
			})
		}
	}
	for name := range cases {
		assert.True(t, caught[name], "no fault shows that %q can fail", name)
	}
}

// TestReadme: the table of cases in provider/README.md is this suite, and its sentence counts the faults.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "| case |")
	require.True(t, found)
	var listed, want []string
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			break
		}
		assert.Len(t, cells, 7, "a tick a provider: %s", line)
		listed = append(listed, strings.TrimSpace(cells[1]))
	}
	for _, c := range providertest.Cases() {
		want = append(want, c.Name)
	}
	assert.Equal(t, want, listed)
	assert.Contains(t, string(text), fmt.Sprintf("against %d variants", len(catches)))
}
