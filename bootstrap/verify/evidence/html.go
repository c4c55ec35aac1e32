package evidence

import (
	"bytes"
	"crypto/ed25519"
	_ "embed" // the page
	"encoding/hex"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
)

//go:embed report.html.tmpl
var page string

// view is what the page shows.
type view struct {
	*Pack
	Key    string
	Counts map[Status]int
	Groups []group
	Scope  []string
	ByID   map[string]Evidence
}

// group is one framework's controls.
type group struct {
	Framework string
	Controls  []Judged
}

// html renders the page: one file, no outside resources.
func (p *Pack) html(key ed25519.PublicKey) ([]byte, error) {
	v := view{Pack: p, Key: hex.EncodeToString(key), Counts: map[Status]int{}, Scope: scope(), ByID: map[string]Evidence{}}
	for _, e := range p.Evidence {
		v.ByID[e.ID] = e
	}
	for _, c := range p.Controls {
		v.Counts[c.Status]++
		if n := len(v.Groups); n == 0 || v.Groups[n-1].Framework != c.Framework {
			v.Groups = append(v.Groups, group{Framework: c.Framework})
		}
		g := &v.Groups[len(v.Groups)-1]
		g.Controls = append(g.Controls, c)
	}
	t, err := template.New("report").Funcs(functions(p.Time)).Parse(page)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("render the report: %w", err)
	}
	return b.Bytes(), nil
}

// functions are what the page's template uses; now is when the report was made.
func functions(now time.Time) template.FuncMap {
	return template.FuncMap{
		"met": func() Status { return Met }, "notMet": func() Status { return NotMet }, "notJudged": func() Status { return NotJudged },
		"moment": func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") },
		"date":   func(t time.Time) string { return dateOr(t, "never") },
		"days":   func(t time.Time) string { return fmt.Sprintf("%.0f days", t.Sub(now).Hours()/24) },
		"ago": func(t time.Time) string {
			switch d := now.Sub(t); {
			case t.IsZero():
				return "never"
			case d < time.Hour:
				return "within the hour"
			case d < 48*time.Hour:
				return fmt.Sprintf("%.0f hours ago", d.Hours())
			default:
				return fmt.Sprintf("%.0f days ago", d.Hours()/24)
			}
		},
		"class": func(s any) string { return strings.ReplaceAll(fmt.Sprint(s), " ", "-") },
		"join":  strings.Join,
		"short": func(s string) string { return fmt.Sprintf("%.12s", s) },
		"title": func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
	}
}

// Calendar are all certificates of the site, the first to end first.
func (p *Pack) Calendar() []Certificate {
	all := slices.Clone(p.Authorities)
	for _, c := range p.Clusters {
		all = append(all, c.Certificates...)
	}
	byEnd(all)
	return all
}
