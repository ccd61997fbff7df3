import BatchLossFormulas
import BatchLossKernelInterface

// Connectionist temporal classification of one utterance: emissions, from a table of all exponentials where
// classes are few (CTCTable) and from the inputs at the labels where they are many (CTCEmissions); the recursion
// over scaled float64 (CTCScaledRecursion) and, where its certificate fails, the one in which every state has an
// exponent of its own (CTCWideRecursion); then the gradient, from the table or in one pass over the inputs
// (CTCGradient).

/// The kernels over one vector type.
@inline(__always)
func ctcKernels<V: KernelVector>(as vector: V.Type) -> CTCKernels<V.Lane> {
  CTCKernels(
    evaluate: { ctcEvaluate(&$0, as: vector) }, align: { ctcAlign(&$0, path: $1, as: vector) },
    indexOfLargest: { ctcIndexOfLargest($0, $1, as: vector) })
}

/// Loss and, if asked for, gradient of one utterance of at least one frame and enough of them for its labels.
@inline(__always)
private func ctcEvaluate<V: KernelVector>(_ arguments: inout CTCArguments<V.Lane>, as: V.Type) {
  let workspace = CTCWorkspace(
    frames: arguments.frames, labels: arguments.labelCount, columns: arguments.columns,
    scalarBytes: MemoryLayout<V.Lane>.stride, hasTable: !arguments.isNormalized)
  let hasTable = workspace.tableWidth > 0
  ctcPrepare(arguments, workspace)
  let isNormal =
    hasTable
    ? ctcTableEmissions(&arguments, workspace, as: V.self)
    : ctcInputEmissions(&arguments, workspace, as: V.self)
  guard arguments.outcome == .finite else { return }
  if !isNormal || !ctcScaledRecursion(&arguments, workspace, as: V.self) {
    arguments.isWide = true
    ctcWideRecursion(&arguments, workspace, as: V.self)
  }
  if hasTable {
    guard arguments.outcome == .finite, arguments.gradient != nil else { return }
    ctcTableGradient(arguments, workspace, as: V.self)
  } else if !arguments.isNormalized {
    ctcSoftmaxRows(&arguments, workspace, as: V.self)
  } else if arguments.outcome == .finite {
    ctcLogProbabilityRows(arguments, workspace, as: V.self)
  }
}

/// What depends on the labels alone.
@inline(never)
func ctcPrepare<Lane: KernelScalar>(_ arguments: CTCArguments<Lane>, _ workspace: CTCWorkspace) {
  let count = arguments.labelCount
  // 1 for labels that may follow their predecessor without a blank between, 0 for all others.
  let skips = ctcRow(0, arguments, workspace)
  for index in 0..<workspace.width + 8 {
    let isAllowed = index > 0 && index < count && arguments.labels[index] != arguments.labels[index - 1]
    skips[index] = isAllowed ? 1 : 0
  }
}

/// One of the float64 rows over states.
@inline(__always)
func ctcRow<Lane: KernelScalar>(
  _ row: Int, _ arguments: CTCArguments<Lane>, _ workspace: CTCWorkspace
) -> UnsafeMutablePointer<Double> {
  (arguments.workspace + workspace.rows).assumingMemoryBound(to: Double.self) + row * (workspace.width + 8)
}
