import ArgumentParser
import BatchLoss
import BatchLossCatalog
import BatchLossTestSupport
import Foundation

/// Measures every loss of the catalogue, in both scalar types, against its definition in the widest arithmetic there is.
/// Fails when one is off by more than `docs/numerics.md` promises.
struct LossesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "losses", abstract: "Measures cost and gradients of every loss against its definition.")

  @Option(help: "Measure one loss only.") var loss: String?
  @Flag(help: "Print a line for each batch.") var verbose = false

  /// How far a float32 cost may be off, relative.
  private static let costBound = 1e-6
  /// How far cost and gradient in float64 may be off.
  private static let doubleBound = 1e-12

  func run() throws {
    let cases = LossCase.all.filter { loss == nil || $0.loss == loss }
    guard !cases.isEmpty else { throw ValidationError("no loss is called '\(loss!)'") }
    let missing = Set(LossCatalog.entries.map(\.name)).subtracting(LossCase.all.map(\.loss))
    guard missing.isEmpty else {
      throw ValidationError("no definition for \(missing.sorted().joined(separator: ", "))")
    }
    print("Instruction set \(try InstructionSet.current.rawValue).\n")
    print("| loss | | cost, float32 | gradient, float32 | bound | cost, float64 | gradient, float64 |")
    print("|---|---|---:|---:|---:|---:|---:|")
    var isFine = true
    for loss in cases {
      let (single, double) = try measure(loss)
      let cells = [
        loss.loss, loss.variant, cell(single.cost, Self.costBound), cell(single.gradient, loss.gradientBound),
        String(format: "%.0e", loss.gradientBound), cell(double.cost, Self.doubleBound),
        cell(double.gradient, Self.doubleBound),
      ]
      print("| \(cells.joined(separator: " | ")) |")
      fflush(nil)
      isFine =
        isFine && single.cost <= Self.costBound && single.gradient <= loss.gradientBound
        && max(double.cost, double.gradient) <= Self.doubleBound
    }
    guard isFine else { throw ExitCode.failure }
  }

  private func measure(_ loss: LossCase) throws -> (single: LossErrors, double: LossErrors) {
    let entry = LossCatalog[loss.loss]!
    var (single, double) = (LossErrors(), LossErrors())
    for (index, size) in loss.sizes.enumerated() {
      var random = RandomSource(seed: UInt64(index + 1))
      let inputs = loss.inputs(size, &random)
      let variables = LossVariables(inputs)
      let cost = loss.cost(variables)
      let gradients = variables.gradients(of: cost)
      let narrow = try errors(
        of: entry, loss.options, inputs, cost: cost.value, gradients: gradients, as: Float.self)
      let wide = try errors(
        of: entry, loss.options, inputs, cost: cost.value, gradients: gradients, as: Double.self)
      if verbose {
        print(
          "\(loss.loss) \(loss.variant) \(size.rows)×\(size.columns) scale \(size.scale): cost \(cost.value)",
          narrow, wide)
      }
      single.merge(narrow)
      double.merge(wide)
    }
    return (single, double)
  }

  private func cell(_ error: Double, _ bar: Double) -> String {
    String(format: "%.1e", error) + (error <= bar ? "" : " (over \(bar))")
  }
}
