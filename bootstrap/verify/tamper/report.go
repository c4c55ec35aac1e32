package tamper

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

func tableOf(title, note string, columns []string, rows [][]string) verify.Table {
	return verify.Table{Title: title, Note: note, Columns: columns, Rows: rows}
}

// report puts the attempts into the document.
func (a *attack) report() {
	slices.SortStableFunc(a.attempts, func(x, y Attempt) int {
		return cmp.Or(cmp.Compare(x.Role, y.Role), cmp.Compare(x.Address, y.Address), cmp.Compare(x.Credential, y.Credential), cmp.Compare(x.Found, y.Found))
	})
	a.findings()
	byOutcome, distinct, stand := map[Outcome]int{}, map[string]bool{}, 0
	for _, t := range a.attempts {
		byOutcome[t.Outcome]++
		stand += t.StandsFor
		if t.Outcome != Unreachable && t.Outcome != Skipped {
			distinct[strings.Join([]string{t.Credential, t.Address, t.Request}, "\x00")] = true
		}
	}
	a.doc.Fact("attacked from", a.from.Name())
	a.doc.Fact("marker", a.run)
	a.doc.Fact("credentials tried", strconv.Itoa(len(a.credentials)))
	a.doc.Fact("endpoints", strconv.Itoa(len(a.targets)))
	a.doc.Fact("distinct attempts that reached something", strconv.Itoa(len(distinct)))
	a.doc.Fact("requests that had no connection to be sent on", strconv.Itoa(stand))
	for _, o := range slices.Sorted(maps.Keys(byOutcome)) {
		a.doc.Fact("attempts: "+string(o), strconv.Itoa(byOutcome[o]))
	}
	a.doc.Tables = append(a.doc.Tables, a.matrix(), a.holdings(), a.list())
	if data, err := json.Marshal(a.attempts); err == nil { // plain strings
		a.doc.Data = data
	}
}

func (a *attack) findings() {
	open := map[string]bool{}
	for _, t := range a.attempts {
		what := fmt.Sprintf("%s: %s, at %s (%s)", t.Verb, t.Request, t.Target, t.Address)
		switch {
		case t.Breach:
			a.breach(string(t.Role), fmt.Sprintf("%s worked with %s (found at %s): %s", what, t.Credential, cmp.Or(t.Found, "nowhere, it needs none"), t.Detail))
		case t.Outcome == Succeeded:
			open[t.Target+" ("+t.Address+")"] = true
		case t.Outcome == Unclear && (t.Role != Other || t.Verb != Read): // silence of what holds no evidence says nothing
			a.unknown(string(t.Role), fmt.Sprintf("%s with %s was neither refused nor done: %s", what, t.Credential, t.Detail))
		}
	}
	if len(open) > 0 {
		a.note("other endpoints", "these answer reading without a credential of the service cluster; they hold no evidence, and a network policy closes them: "+strings.Join(slices.Sorted(maps.Keys(open)), ", "))
	}
	a.note("not tried", "injection of VXLAN packets: a machine in the nodes' network can send packets into the pod network under any address; what answers there asks for certificates all the same. Attempts that need days, such as guessing passwords, and denial of service were left out.")
	for key, n := range a.told {
		if n > tell {
			a.doc.Add(key.severity, key.name, fmt.Sprintf("and %d more like these; see the list of attempts", n-tell))
		}
	}
	order := []verify.Severity{verify.Breach, verify.Unknown, verify.Note}
	slices.SortStableFunc(a.doc.Findings, func(x, y verify.Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(order, x.Severity), slices.Index(order, y.Severity)), cmp.Compare(x.Subject, y.Subject))
	})
}

// matrix counts outcomes by role.
func (a *attack) matrix() verify.Table {
	count := map[Role]map[Outcome]int{}
	for _, t := range a.attempts {
		if count[t.Role] == nil {
			count[t.Role] = map[Outcome]int{}
		}
		count[t.Role][t.Outcome]++
	}
	var rows [][]string
	for _, role := range slices.Sorted(maps.Keys(count)) {
		var cells []string
		for _, o := range slices.Sorted(maps.Keys(count[role])) {
			cells = append(cells, fmt.Sprintf("%s %d", o, count[role][o]))
		}
		rows = append(rows, []string{string(role), strings.Join(cells, ", ")})
	}
	return tableOf("Outcomes by what was attacked", "Unreachable is shown apart: there the network refused, not the endpoint.", []string{"endpoint", "attempts"}, rows)
}

// holdings lists the credentials without telling them.
func (a *attack) holdings() verify.Table {
	var rows [][]string
	for _, c := range a.credentials {
		if !c.anonymous() {
			rows = append(rows, []string{string(c.Kind), c.Subject, c.Fingerprint, c.place()})
		}
	}
	return tableOf("Credentials", "Everything that was found in the workload cluster, and what was made of it. Fingerprints of tokens and passwords mean something within this document only.",
		[]string{"kind", "subject", "fingerprint", "found"}, rows)
}

func (a *attack) list() verify.Table {
	var rows [][]string
	for _, t := range a.attempts {
		detail := t.Detail
		if t.StandsFor > 0 {
			detail += fmt.Sprintf(" (stands for %d more requests)", t.StandsFor)
		}
		rows = append(rows, []string{string(t.Role), t.Target + " " + t.Address, t.Credential, string(t.Verb), t.Request, string(t.Outcome), detail})
	}
	return tableOf("Attempts", "", []string{"role", "endpoint", "credential", "verb", "request", "outcome", "detail"}, rows)
}
