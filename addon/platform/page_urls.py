"""Routes of the pages for people, and of the CLI's login through one of them."""

from django.urls import path

from addon.platform.views import dashboard, login

urlpatterns = [
    path("auth", login.BrowserLoginsView.as_view()),
    path("auth/browser/<str:login>", login.BrowserLoginPage.as_view()),
    path("auth/cli/<str:login>", login.WaitingCli.as_view()),
    path("dashboard", dashboard.HomePage.as_view()),
    path("dashboard/addons/<uuid:addon>", dashboard.AddonPage.as_view()),
    path("login", login.LoginPage.as_view()),
    path("logout", login.LogoutPage.as_view()),
]
