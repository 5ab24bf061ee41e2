# Fits the models named below in R and prints "name,value" with 17 digits. Run by `./dev reference`.
# Debian: r-base-core r-cran-survival r-cran-cmprsk r-cran-lme4 r-cran-pbkrtest r-cran-metafor
args <- commandArgs(trailingOnly = TRUE)
root <- args[1]
say <- function(name, value) cat(sprintf("%s,%.17g\n", name, as.numeric(value)), sep = "")
has <- function(p) suppressWarnings(suppressMessages(require(p, character.only = TRUE, quietly = TRUE)))

if (has("survival")) {
  d <- read.csv(file.path(root, "survival", "trial.csv"))
  d$arm <- factor(d$arm, levels = c("placebo", "low", "high"))
  d$relapse <- as.integer(d$status == 1)
  km <- summary(survfit(Surv(time, relapse) ~ arm, d, conf.type = "log-log"), times = 26)
  for (i in 1:3) { say(paste0("km.surv.", i), km$surv[i]); say(paste0("km.lower.", i), km$lower[i]) }
  say("logrank.chisq", survdiff(Surv(time, relapse) ~ arm, d)$chisq)
  for (ties in c("efron", "breslow", "exact")) {
    fit <- coxph(Surv(time, relapse) ~ arm + madrs0, d, ties = ties, control = coxph.control(eps = 1e-14, iter.max = 50))
    for (i in 1:3) { say(sprintf("cox.%s.coef.%d", ties, i), coef(fit)[i]); say(sprintf("cox.%s.se.%d", ties, i), sqrt(vcov(fit)[i, i])) }
  }
  fit <- coxph(Surv(time, relapse) ~ arm + madrs0, d, control = coxph.control(eps = 1e-14, iter.max = 50))
  say("zph.global", cox.zph(fit, transform = "km")$table["GLOBAL", "chisq"])
}
if (has("cmprsk")) {
  d <- read.csv(file.path(root, "survival", "trial.csv"))
  say("gray.chisq", cuminc(d$time, d$status, d$arm)$Tests[1, "stat"])
}
if (has("lme4") && has("pbkrtest")) {
  d <- read.csv(file.path(root, "mixed", "kap_sessions.csv"))
  tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
  fit <- lmer(qids ~ dose_mgkg * week + (week | subject), d, control = tight)
  say("lmm.loglik", logLik(fit))
  v <- vcovAdj(fit)
  for (i in 1:4) { say(paste0("lmm.coef.", i), fixef(fit)[i]); say(paste0("lmm.kr.se.", i), sqrt(v[i, i])); say(paste0("lmm.kr.df.", i), Lb_ddf(as.numeric(1:4 == i), vcov(fit), v)) }
}
if (has("metafor")) {
  x <- data.frame(y = c(-4.1, -3.2, -6.0, -1.5, -4.8), s = c(1.7, 1.9, 2.1, 1.4, 2.6))
  fit <- rma(yi = y, sei = s, data = x, method = "REML", test = "knha", control = list(threshold = 1e-12, maxiter = 1000))
  say("meta.estimate", fit$b); say("meta.se", fit$se); say("meta.tau2", fit$tau2)
}
