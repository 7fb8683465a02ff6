// Package testdata holds public US records that the program shows and tests
// itself with.
package testdata

import _ "embed"

// WeatherName is the name of the file that Weather holds.
const WeatherName = "weather.csv"

//go:embed weather.csv
var weather string

// Weather returns daily weather of Seattle and New York, 2012 to 2015, as CSV
// with a header: 2,922 rows by location, then date.
func Weather() string { return weather }
