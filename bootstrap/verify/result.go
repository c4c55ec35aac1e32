// Package verify holds the document that every check of a live site ends in: what was checked, on which inventory, with
// which verdict and from what evidence, signed with the site's key. A document can be read and checked years later, without
// the site: Read fails when one byte of it was changed. The checks themselves live in the folders below.
package verify

import (
	"encoding/json"
	"time"
)

// APIVersion is the version of the document's form. A reader refuses versions that it does not know.
const APIVersion = "catamaran/verify/v1"

// Verdict is how a check ended.
type Verdict string

// Verdicts. What could not be judged is not a pass.
const (
	Pass     Verdict = "pass"     // the claim held
	Fail     Verdict = "fail"     // the claim was shown to be wrong
	Unjudged Verdict = "unjudged" // part of the check could not run; the findings say which and why
)

// Exit codes of the commands that make documents.
const (
	ExitPass     = 0
	ExitFail     = 1
	ExitUnjudged = 4
)

// ExitCode is the process's exit code for a verdict.
func (v Verdict) ExitCode() int {
	switch v {
	case Pass:
		return ExitPass
	case Fail:
		return ExitFail
	}
	return ExitUnjudged
}

// Document is one check of one site. No secret ever stands in it: secrets are named by kind, place and fingerprint.
type Document struct {
	APIVersion string `json:"apiVersion"`
	// Kind is the check: tamper, separation, canary, chain, report ... Also the beginning of the file's name.
	Kind string `json:"kind"`
	// Title and Claim are for people: what was checked, and the sentence that the verdict is about.
	Title string `json:"title"`
	Claim string `json:"claim"`
	Site  string `json:"site"`
	// Started and Ended are UTC, to the second.
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	Operator string    `json:"operator"`
	// Version is catamaran's. Inventory is the SHA-256 of the inventory file, in hex.
	Version   string    `json:"version"`
	Inventory string    `json:"inventory"`
	Verdict   Verdict   `json:"verdict"`
	Facts     []Fact    `json:"facts"`
	Findings  []Finding `json:"findings"`
	Tables    []Table   `json:"tables"`
	// Data is what a program may want beside the tables; its form depends on Kind. It must be JSON; nil: none.
	Data json.RawMessage `json:"data,omitempty"`
}

// Fact is one line of the summary, such as "attempts: 412".
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Finding is one thing that somebody must look at. A document with Verdict Pass has only findings of Severity Note.
type Finding struct {
	// Severity is Breach, Unknown or Note.
	Severity Severity `json:"severity"`
	// Subject is what it is about (a host and file, an endpoint, a Secret); Message says what was found and what to do.
	Subject string `json:"subject"`
	Message string `json:"message"`
}

// Severity orders findings.
type Severity string

// Severities. Breach makes the verdict Fail, Unknown makes it Unjudged unless there is a Breach.
const (
	Breach  Severity = "breach"
	Unknown Severity = "unknown"
	Note    Severity = "note"
)

// Table is evidence in rows; each row has as many cells as there are columns.
type Table struct {
	Title   string     `json:"title"`
	Note    string     `json:"note,omitempty"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Add records a finding.
func (d *Document) Add(s Severity, subject, message string) {
	d.Findings = append(d.Findings, Finding{Severity: s, Subject: subject, Message: message})
}

// Fact records a line of the summary.
func (d *Document) Fact(name, value string) {
	d.Facts = append(d.Facts, Fact{Name: name, Value: value})
}

// Judge ends the document and sets the verdict from the findings.
func (d *Document) Judge() {
	d.Ended = time.Now()
	d.Verdict = Pass
	for _, f := range d.Findings {
		switch f.Severity {
		case Breach:
			d.Verdict = Fail
			return
		case Note:
		case Unknown:
			d.Verdict = Unjudged
		}
	}
}

// Subject is what a document says of the site and the run that it belongs to.
type Subject struct {
	Site, Operator, Version string
	// Inventory is the SHA-256 of the inventory file, in hex.
	Inventory string
}

// New begins a document now.
func New(kind, title, claim string, s Subject) Document {
	return Document{
		APIVersion: APIVersion, Kind: kind, Title: title, Claim: claim, Started: time.Now(),
		Site: s.Site, Operator: s.Operator, Version: s.Version, Inventory: s.Inventory,
	}
}
