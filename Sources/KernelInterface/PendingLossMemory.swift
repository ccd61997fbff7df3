/// Scratch memory for the losses of rows that wait until their logarithms are taken together.
package enum PendingLossMemory {
  /// Rows that wait at most.
  package static var rows: Int { 16 }
  /// Elements of either scalar type: five float64 numbers a row.
  package static var count: Int { 2 * 5 * rows }
}
