# Residual structures beside random effects by R nlme; writes residual_structures.json beside this file.
# Rscript residual_structures.R   (Debian: r-base-core r-cran-nlme r-cran-jsonlite)
suppressMessages({library(nlme); library(jsonlite)})
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
d <- read.csv(file.path(here, "kap_trial.csv"))
d <- d[!is.na(d$chg), ]
d$visit_f <- factor(d$visit); d$arm <- relevel(factor(d$arm), "placebo"); d$step <- as.integer(d$visit_f)
d$week <- d$visit / 7
d <- d[order(d$site, d$subject, d$step), ]
tight <- lmeControl(maxIter = 500, msMaxIter = 2000, msMaxEval = 5000, tolerance = 1e-10, niterEM = 100, msTol = 1e-13,
                    opt = "nlminb", msVerbose = FALSE)
fixed <- chg ~ madrs_base + arm * visit_f
model <- function(random, method, ...) lme(fixed, d, random = random, method = method, control = tight, ...)
site <- ~ 1 | site; both <- ~ 1 | site/subject
cases <- list(
  us_site = function(m) model(site, m, correlation = corSymm(form = ~ step | site/subject), weights = varIdent(form = ~ 1 | visit_f)),
  cs_site = function(m) model(site, m, correlation = corCompSymm(form = ~ step | site/subject)),
  csh_site = function(m) model(site, m, correlation = corCompSymm(form = ~ step | site/subject), weights = varIdent(form = ~ 1 | visit_f)),
  ar1_site = function(m) model(site, m, correlation = corAR1(form = ~ step | site/subject)),
  ar1h_subject = function(m) model(both, m, correlation = corAR1(form = ~ step | site/subject), weights = varIdent(form = ~ 1 | visit_f)),
  diag_visit = function(m) model(both, m, weights = varIdent(form = ~ 1 | visit_f)),
  diag_arm = function(m) model(both, m, weights = varIdent(form = ~ 1 | arm)),
  sp_exp_subject = function(m) model(both, m, correlation = corExp(form = ~ week | site/subject)),
  sp_gau_site = function(m) model(site, m, correlation = corGaus(form = ~ week | site/subject))
)
out <- list(software = list(R = as.character(getRversion()), nlme = as.character(packageVersion("nlme"))), models = list())
for (name in names(cases)) for (m in c("REML", "ML")) {
  fit <- tryCatch(cases[[name]](m), error = function(e) { message(name, " ", m, ": ", conditionMessage(e)); NULL })
  if (is.null(fit)) next
  t <- summary(fit)$tTable
  out$models[[paste(name, m, sep = "_")]] <- list(logLik = as.numeric(logLik(fit)), AIC = AIC(fit), sigma = fit$sigma,
    terms = rownames(t), estimate = unname(t[, "Value"]), std_error = unname(sqrt(diag(vcov(fit)))),
    structure = as.list(coef(fit$modelStruct, unconstrained = FALSE)))
}
write(toJSON(out, digits = 17, auto_unbox = TRUE, pretty = TRUE), file.path(here, "residual_structures.json"))
