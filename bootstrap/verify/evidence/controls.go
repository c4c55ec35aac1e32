package evidence

// Judged is one control with what this report has to say on it.
type Judged struct {
	Framework string `json:"framework"`
	ID        string `json:"id"`
	Title     string `json:"title"`
	// Evidence are IDs; Status is the worst of theirs: not met, then not judged.
	Evidence []string `json:"evidence"`
	Status   Status   `json:"status"`
	// Note says what the evidence leaves open.
	Note string `json:"note,omitempty"`
}

// Frameworks. Numbers of ISO 27001 are those of Annex A of the edition of 2013, which many statements of applicability
// still use; of NIST 800-171 those of revision 2.
const (
	iso  = "ISO 27001 Annex A"
	nist = "NIST 800-171"
	gdpr = "GDPR"
	nis2 = "NIS2"
)

// controls are what the evidence is about. A control that is not here is out of the report's scope.
func controls() []Judged {
	return []Judged{
		{Framework: iso, ID: "A.9.2.3, A.9.2.5", Title: "Privileged access rights and their review", Evidence: []string{"admins", "keys"}},
		{Framework: iso, ID: "A.9.4", Title: "System access control", Evidence: []string{"keys", "hosts", "separation"}},
		{Framework: iso, ID: "A.10.1", Title: "Cryptographic controls", Evidence: []string{"certificates", "etcd", "disks"}},
		{Framework: iso, ID: "A.12.1.2, A.14.2.4", Title: "Change management", Evidence: []string{"journal", "inventory"}},
		{Framework: iso, ID: "A.12.2.1", Title: "Controls against malware", Evidence: []string{"falco", "images"}},
		{Framework: iso, ID: "A.12.3.1, A.17.1", Title: "Backup, continuity", Evidence: []string{"backups"}},
		{Framework: iso, ID: "A.12.4.1, A.12.4.3", Title: "Event logging; administrator logs", Evidence: []string{"audit", "canary"}},
		{Framework: iso, ID: "A.12.4.2", Title: "Protection of log information", Evidence: []string{"tamper", "chain", "separation"}},
		{Framework: iso, ID: "A.12.4.4", Title: "Clock synchronisation", Evidence: []string{"time"}},
		{Framework: iso, ID: "A.12.6.1", Title: "Management of technical vulnerabilities", Evidence: []string{"scans", "images", "versions"}},
		{Framework: iso, ID: "A.13.1", Title: "Network security", Evidence: []string{"policies", "tamper"}},
		{Framework: iso, ID: "A.16.1", Title: "Incident management: detection and evidence", Evidence: []string{"falco", "canary", "chain"}, Note: "how people respond is not seen from here"},
		{Framework: iso, ID: "A.18.2.3", Title: "Technical compliance review", Evidence: []string{"constraints", "versions"}},

		{Framework: nist, ID: "3.1.5, 3.1.7", Title: "Least privilege", Evidence: []string{"admins"}},
		{Framework: nist, ID: "3.3.1, 3.3.2", Title: "Audit records of individual users", Evidence: []string{"audit", "canary"}},
		{Framework: nist, ID: "3.3.7", Title: "Authoritative time", Evidence: []string{"time"}},
		{Framework: nist, ID: "3.3.8, 3.3.9", Title: "Protection of audit information", Evidence: []string{"tamper", "chain", "separation"}},
		{Framework: nist, ID: "3.4.1, 3.4.3", Title: "Baseline configuration, tracked changes", Evidence: []string{"inventory", "journal", "versions", "images"}},
		{Framework: nist, ID: "3.4.6, 3.4.8", Title: "Least functionality", Evidence: []string{"constraints"}},
		{Framework: nist, ID: "3.8.9", Title: "Protected backups", Evidence: []string{"backups"}},
		{Framework: nist, ID: "3.11.2", Title: "Vulnerability scans", Evidence: []string{"scans"}},
		{Framework: nist, ID: "3.13.6", Title: "Deny network traffic by default", Evidence: []string{"policies"}},
		{Framework: nist, ID: "3.13.10, 3.13.11", Title: "Cryptographic keys", Evidence: []string{"certificates"}, Note: "FIPS validated modules are not claimed"},
		{Framework: nist, ID: "3.13.16", Title: "Confidentiality at rest", Evidence: []string{"etcd", "disks"}},
		{Framework: nist, ID: "3.14.6, 3.14.7", Title: "Monitoring for attacks and unauthorised use", Evidence: []string{"falco", "canary"}},

		{Framework: gdpr, ID: "Art. 5(2), 30", Title: "Accountability", Evidence: []string{"journal", "chain"}, Note: "records of processing are the controller's"},
		{Framework: gdpr, ID: "Art. 32(1)(a)", Title: "Encryption", Evidence: []string{"etcd", "disks", "certificates"}},
		{Framework: gdpr, ID: "Art. 32(1)(b)", Title: "Confidentiality and integrity", Evidence: []string{"tamper", "separation", "policies", "admins"}},
		{Framework: gdpr, ID: "Art. 32(1)(c)", Title: "Restoring availability", Evidence: []string{"backups"}},
		{Framework: gdpr, ID: "Art. 32(1)(d)", Title: "Regular testing", Evidence: []string{"tamper", "canary", "chain"}},
		{Framework: gdpr, ID: "Art. 33", Title: "Noticing a breach", Evidence: []string{"falco", "canary"}, Note: "notification within 72 hours is people's"},

		{Framework: nis2, ID: "Art. 21(2)(b)", Title: "Incident handling", Evidence: []string{"falco", "canary", "chain"}},
		{Framework: nis2, ID: "Art. 21(2)(c)", Title: "Business continuity, backup", Evidence: []string{"backups"}},
		{Framework: nis2, ID: "Art. 21(2)(d)", Title: "Supply chain", Evidence: []string{"images", "scans"}},
		{Framework: nis2, ID: "Art. 21(2)(e)", Title: "Maintenance and vulnerability handling", Evidence: []string{"scans", "versions", "journal"}},
		{Framework: nis2, ID: "Art. 21(2)(f)", Title: "Assessing the measures' effect", Evidence: []string{"tamper", "canary", "separation", "constraints"}},
		{Framework: nis2, ID: "Art. 21(2)(h)", Title: "Cryptography", Evidence: []string{"certificates", "etcd", "disks"}},
		{Framework: nis2, ID: "Art. 21(2)(i)", Title: "Access control, assets", Evidence: []string{"admins", "keys", "inventory"}},
	}
}

// judgeControls takes the worst of each control's evidence.
func judgeControls(by map[string]Evidence) []Judged {
	out := controls()
	for i, c := range out {
		out[i].Status = Met
		for _, id := range c.Evidence {
			switch by[id].Status {
			case NotMet:
				out[i].Status = NotMet
			case NotJudged:
				if out[i].Status == Met {
					out[i].Status = NotJudged
				}
			}
		}
	}
	return out
}

// scope is what this report says nothing about.
func scope() []string {
	return []string{
		"The organisation: policies, training, contracts, roles, risk assessment, how people respond to an incident. The control table is about the technical part of each control only.",
		"The machines' own security below the operating system: firmware, hypervisor, out-of-band management, physical access.",
		"The application in the workload cluster: its users, its data, its code, its own logs' content.",
		"Networks outside the clusters: firewalls, load balancers, DNS and time servers themselves.",
		"Identity providers and multi-factor authentication of people.",
		"Backups and restores: not covered by this version.",
		"Whoever holds the service cluster or this site's vault: the claim is that the workload cluster can not change delivered evidence, not that its keeper can not.",
		"Anything between two reports: this one tells what was seen at one moment, in minutes of work, and what earlier checks found on their day.",
	}
}
