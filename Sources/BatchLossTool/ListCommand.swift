import ArgumentParser
import BatchLossCatalog

/// `batch-loss list`.
struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the losses with their inputs, options and formulas.")

  func run() {
    for entry in LossCatalog.entries {
      print(entry.name)
      print("  formula   \(entry.formula)")
      print("  inputs    \(entry.roles.map(describe).joined(separator: " "))")
      if !entry.options.isEmpty {
        print("  options   \(entry.options.map { "--" + $0.flag }.joined(separator: " "))")
      }
      print("  reduction \(entry.defaultReduction.flag)")
      print("")
    }
    print("* has a gradient; [ ] may be left out")
  }

  private func describe(_ use: RoleUse) -> String {
    let name = "--" + use.role.rawValue + (use.isDifferentiable ? "*" : "")
    return use.isRequired ? name : "[\(name)]"
  }
}
