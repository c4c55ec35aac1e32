// Package providertest is the one conformance suite that every provider must pass: the contract of provider.Provider as
// cases. A provider's own test hands a Harness to Run.
package providertest

import (
	"testing"
	"time"

	"github.com/catamaran-k8s/catamaran/provider"
)

// Harness says how the suite drives one provider.
type Harness struct {
	// World makes an empty world of its own for one case: a project in a cloud, a rack. t.Cleanup takes it away.
	World func(t testing.TB) World
	// Creates says that the provider makes machines. One that only adopts listed machines must plan, change and delete
	// nothing, and the suite checks that instead.
	Creates bool
	// Patience is how long one call may take. Default 20 s; a real cloud needs more.
	Patience time.Duration
	// Stride makes the cases that cut a call off try every Stride-th operation only. Default 1: all of them.
	Stride int
}

// World is what a provider acts on.
type World interface {
	// Provider is a provider as a new process has it: nothing is remembered that is not in the world.
	Provider(t testing.TB) provider.Provider
	// Request asks for what a case needs. A case asks once in a world, or again for more nodes, of which the first are the same;
	// it takes nodes away, and marks them present or absent, in the inventory of the request itself.
	Request(t testing.TB, w Want) provider.Request
	// Resources identify everything that exists in the world, whoever made it, sorted. An identity is never used again.
	Resources(t testing.TB) []string
	// Watch calls f before and after each operation on the world that changes something, from now on, possibly from
	// several goroutines. A world without operations never calls it.
	Watch(f func())
	// Break makes all following operations fail in a way that trying again can not mend, and tells whether it can.
	Break(t testing.TB) bool
	// Spoil returns the request with settings of a node that Plan and Ensure must refuse, such as a flavor that is not there, and
	// tells whether there is such a setting. The suite hands it a request that nobody else uses.
	Spoil(t testing.TB, r provider.Request) (provider.Request, bool)
}

// Want is what a case asks of a world.
type Want struct {
	// Nodes is how many nodes the workload cluster has, at least 2; the last but one is absent, unless it is the first.
	Nodes int
	// Adopted is how many of the first nodes have a machine in the world already, made by somebody else.
	Adopted int
}

// Case is one clause of the contract.
type Case struct {
	Name  string
	Check func(t testing.TB, h Harness)
}

// Run runs every case against a provider.
func Run(t *testing.T, h Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Check(t, h)
		})
	}
}

// Cases are the suite. The names stand in provider/README.md.
func Cases() []Case {
	return []Case{
		{"plan changes nothing", planIsPure},
		{"plan tells what ensure does", planIsTrue},
		{"plan is empty after ensure", planEmptyAfterEnsure},
		{"plan returns the machines that exist", planKnowsMachines},
		{"ensure returns all machines in inventory order", machinesInOrder},
		{"ensure again changes nothing", ensureAgain},
		{"ensure makes only what is missing", ensureGrows},
		{"ensure makes nothing for absent nodes", ensureAbsent},
		{"ensure adopts what is there", adopts},
		{"ensure cut off anywhere goes on", ensureCutOff},
		{"surplus is planned and left alone", surplusStays},
		{"adopted machines are never surplus", adoptedIsNoSurplus},
		{"retire deletes exactly the named machines", retiresNamed},
		{"retire deletes the machine of an absent node", retiresAbsent},
		{"retire leaves adopted machines", retireLeavesAdopted},
		{"retire again is no error", retireAgain},
		{"retire cut off anywhere goes on", retireCutOff},
		{"plan of destroy changes nothing", planDestroyIsPure},
		{"plan of destroy tells what destroy does", planDestroyIsTrue},
		{"destroy deletes all that ensure created", destroysAll},
		{"destroy deletes surplus too", destroysSurplus},
		{"destroy leaves adopted machines", destroyLeavesAdopted},
		{"destroy again is no error", destroyAgain},
		{"destroy needs no valid node", destroySpoiled},
		{"destroy cut off anywhere goes on", destroyCutOff},
		{"report may be nil", reportNil},
		{"report holds no lock", reportFree},
		{"report ends with the call", reportEnds},
		{"a cancelled context stops everything", contextHonoured},
		{"permanent errors say so", permanentErrors},
		{"several calls at once", concurrent},
	}
}
