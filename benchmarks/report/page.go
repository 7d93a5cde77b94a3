package main

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page writes one HTML file that needs no other.
func (r *report) page(w io.Writer) error {
	charts, err := r.charts()
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, struct {
		Conditions, Legend string
		Brief, Bars, Full  table
		Charts             []chart
		Failures           []string
	}{r.conditions(), r.legend(), r.table(true), r.barTable(), r.table(false), charts, r.Failures})
}
