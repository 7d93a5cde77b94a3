// Package ports keeps the accounts of TCP ports: which are held, for whom, and by how many.
//
// Locks are taken in this order: that of sharedPorts, of a Reservation, of a Space or Set. In the
// other order one is only tried, in Reservation.gone.
package ports
